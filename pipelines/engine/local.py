"""All stages on one machine: threads that read ahead, the model in the calling thread, one thread that writes behind.

Decoding itself happens in child processes with caps (`medmm.dicom.pool`), so a crash or a hang costs its own case only.
The model gets what has been read by the time it is free, as much as fits together; it never waits for company. Queues
are bounded, so memory does not grow with the number of cases: at most `workers` cases are read ahead, or as many as
fill one pass of the model (16 at most); `WRITE_BACKLOG` wait to be written beside those that were judged together.
Outcomes come in the order of the plans, whatever the number of workers.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipelines.engine.attempts import Refused
from pipelines.engine.stop import StopSwitch

WRITE_BACKLOG = 2
MOST_AHEAD = 16  # cases, however small they are
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
    judge: Callable[[Sequence[Read]], Sequence[Judged | Refused]],
    write: Callable[[Plan, Judged], Written | Refused],
    workers: int,
    switch: StopSwitch,
    size: Callable[[Read], float] = lambda case: 1.0,
) -> Iterator[Outcome[Plan, Written]]:
    """Yield the outcome of every plan, in order; ends early, in order, once the switch is on.

    Args:
        plans: What to read; taken one by one, as there is room.
        read: Runs in `workers` threads.
        judge: Runs in the calling thread: it holds the model. Gets one case, or several that fit together.
        write: Runs in one other thread.
        workers: How many cases are read at the same time.
        switch: Asked before cases are judged. Those read ahead are dropped then; those in hand are finished.
        size: The share that a case has of what may be judged together; by default each is judged alone.
    Raises:
        StopRun: From any stage: the disk is full.
    """
    ahead = _ReadAhead(iter(plans), read, workers, size, switch)
    writing: deque[tuple[Plan, Future[Written | Refused]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        try:
            while ahead.top_up() and ahead.arrives():
                taken = ahead.take()
                ahead.top_up()  # to be read while the model is busy
                for plan, judged in _judged_together(taken, judge):
                    writing.append((plan, writer.submit(_unless_refused, write, plan, judged)))
                while len(writing) > WRITE_BACKLOG or (writing and writing[0][1].done()):
                    yield _outcome(*writing.popleft())
            while writing:
                yield _outcome(*writing.popleft())
        finally:
            ahead.close()


class _ReadAhead(Generic[Plan, Read]):
    """Cases that are being read or wait for the model, in the order of the plans."""

    def __init__(
        self,
        source: Iterator[Plan],
        read: Callable[[Plan], Read | Refused],
        workers: int,
        size: Callable[[Read], float],
        switch: StopSwitch,
    ) -> None:
        self._source, self._read, self._workers, self._switch = source, read, workers, switch
        self._size_of = size
        self._reader = ThreadPoolExecutor(workers, thread_name_prefix="read")
        self._cases: deque[tuple[Plan, Future[Read | Refused]]] = deque()
        self._largest: float | None = None  # size of the largest case yet

    def top_up(self) -> bool:
        """Start reading as many plans as there is room for; whether there is anything to wait for."""
        while not self._switch.is_on and self._has_room():
            plan = next(self._source, None)
            if plan is None:
                break
            self._cases.append((plan, self._reader.submit(self._read, plan)))
        return bool(self._cases) and not self._switch.is_on

    def arrives(self) -> bool:
        """Wait for the next case, or for a stop; whether the case came."""
        while not wait((self._cases[0][1],), POLL_S).done:
            if self._switch.is_on:
                return False
        return True

    def take(self) -> list[tuple[Plan, Read | Refused]]:
        """The next case, which has arrived, and those behind it that have arrived too and fit together with it."""
        taken, filled = list[tuple[Plan, Read | Refused]](), 0.0
        while self._cases and self._cases[0][1].done():
            filled += self._size(self._cases[0][1])
            if taken and filled > 1.0:
                break
            plan, future = self._cases.popleft()
            taken.append((plan, future.result()))
        return taken

    def close(self) -> None:
        """Read no more; a reader that hangs is not waited for."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _has_room(self) -> bool:
        """Beyond one case for each reader, only as many as will fill one pass."""
        count = len(self._cases)
        if count < self._workers:
            return True
        arrived = [self._size(future) for _, future in self._cases if future.done()]
        largest = 1.0 if self._largest is None else self._largest
        expected = sum(arrived) + (count - len(arrived)) * largest
        return count < MOST_AHEAD and expected < 1.0

    def _size(self, future: Future[Read | Refused]) -> float:
        case = future.result()
        if isinstance(case, Refused):
            return 0.0
        size = self._size_of(case)
        self._largest = size if self._largest is None else max(self._largest, size)
        return size


def _judged_together(
    taken: Sequence[tuple[Plan, Read | Refused]], judge: Callable[[Sequence[Read]], Sequence[Judged | Refused]]
) -> Iterator[tuple[Plan, Judged | Refused]]:
    """What is said of each plan, in order; refused ones stay what they are."""
    cases = [case for _, case in taken if not isinstance(case, Refused)]
    answers = iter(judge(cases) if cases else ())
    for plan, case in taken:
        yield plan, case if isinstance(case, Refused) else next(answers)


def _unless_refused(
    write: Callable[[Plan, Judged], Written | Refused], plan: Plan, judged: Judged | Refused
) -> Written | Refused:
    return judged if isinstance(judged, Refused) else write(plan, judged)


def _outcome(plan: Plan, future: Future[Written | Refused]) -> Outcome[Plan, Written]:
    return Outcome(plan, future.result())
