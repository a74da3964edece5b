"""All stages on one machine: threads that read ahead, the model in the calling thread, one thread that writes behind.

Decoding itself happens in child processes with caps (`medmm.dicom.pool`), so a crash or a hang costs its own case only.
Queues are bounded, so memory does not grow with the number of cases: at most `workers + 1` cases are read ahead and
`WRITE_BACKLOG` wait to be written. Outcomes come in the order of the plans, whatever the number of workers.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipelines.engine.attempts import Refused
from pipelines.engine.stop import StopSwitch

WRITE_BACKLOG = 2
POLL_S = 0.2

Plan = TypeVar("Plan")
Read = TypeVar("Read")
Judged = TypeVar("Judged")
Written = TypeVar("Written")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Plan, Written]):
    """How a case ended: what was written, or why it was refused."""

    plan: Plan
    result: Written | Refused


def run_local(
    plans: Iterable[Plan],
    *,
    read: Callable[[Plan], Read | Refused],
    judge: Callable[[Read], Judged | Refused],
    write: Callable[[Plan, Judged], Written | Refused],
    workers: int,
    switch: StopSwitch,
) -> Iterator[Outcome[Plan, Written]]:
    """Yield the outcome of every plan, in order; ends early, in order, once the switch is on.

    Args:
        plans: What to read; taken one by one, as there is room.
        read: Runs in `workers` threads.
        judge: Runs in the calling thread, one case at a time: it holds the model.
        write: Runs in one other thread.
        workers: How many cases are read at the same time.
        switch: Asked before each case. Cases read ahead are dropped then; the one in hand is finished.
    Raises:
        StopRun: From any stage: the disk is full.
    """
    source = iter(plans)
    reading: deque[tuple[Plan, Future[Read | Refused]]] = deque()
    writing: deque[tuple[Plan, Future[Written | Refused]]] = deque()
    reader = ThreadPoolExecutor(workers, thread_name_prefix="read")
    with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        try:
            while _top_up(reading, source, lambda plan: reader.submit(read, plan), workers + 1, switch):
                plan, future = reading.popleft()
                if not _arrives(future, switch):
                    break
                case = future.result()
                judged = case if isinstance(case, Refused) else judge(case)
                writing.append((plan, writer.submit(_unless_refused, write, plan, judged)))
                while len(writing) > WRITE_BACKLOG or (writing and writing[0][1].done()):
                    yield _outcome(*writing.popleft())
            while writing:
                yield _outcome(*writing.popleft())
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _top_up(
    reading: deque[tuple[Plan, Future[Read | Refused]]],
    source: Iterator[Plan],
    submit: Callable[[Plan], Future[Read | Refused]],
    room: int,
    switch: StopSwitch,
) -> bool:
    """Start reading as many plans as there is room for; whether there is anything to wait for."""
    while len(reading) < room and not switch.is_on:
        plan = next(source, None)
        if plan is None:
            break
        reading.append((plan, submit(plan)))
    return bool(reading) and not switch.is_on


def _arrives(future: Future[Read | Refused], switch: StopSwitch) -> bool:
    """Wait for a case, or for a stop; whether the case came."""
    while not wait((future,), POLL_S).done:
        if switch.is_on:
            return False
    return True


def _unless_refused(
    write: Callable[[Plan, Judged], Written | Refused], plan: Plan, judged: Judged | Refused
) -> Written | Refused:
    return judged if isinstance(judged, Refused) else write(plan, judged)


def _outcome(plan: Plan, future: Future[Written | Refused]) -> Outcome[Plan, Written]:
    return Outcome(plan, future.result())
