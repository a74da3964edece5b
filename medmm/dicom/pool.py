"""Parents of the decode workers: start them, hand out files, notice deaths and hangs, and go on.

The standard library's process pool will not do: one child that dies takes every queued file with it. Here a death is
the refusal of the one file that was being read; the files behind it go to a fresh worker. Workers stay alive between
calls, because a start costs more than reading a series.
"""

import atexit
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medmm.dicom.limits import Limits
from medmm.dicom.worker import GROUP, receive, send
from medmm.errors import MedmmError

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from medmm.dicom.worker import main; main(int(sys.argv[1]))"
)
_KEPT_IDLE = 8
_START_ATTEMPTS = 3
_START_SECONDS = 120.0
_WAKE_SECONDS = 10.0  # for one that has worked before
_RECYCLE_AFTER = 20_000  # files; native decoders may leak


@dataclass(slots=True, eq=False)
class Task:
    """Files for one worker: a request and how many replies are due. `tag` is the caller's own."""

    request: dict[str, Any]
    items: list[Any]  # one reply is due for each, in order
    key: str  # where the items stand in the request
    encode: Callable[[list[Any]], list[Any]] = list  # items as JSON; what is left after a death is encoded anew
    descriptor: int | None = None
    tag: Any = None
    attempts: int = 0  # starts that came to nothing before a file was touched
    was_killed: bool = False  # its first file once ended a worker by SIGKILL


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one item: the worker's answer, or how the worker died ("memory", "time", "crash")."""

    task: Task
    item: Any
    value: Any = None
    death: str = ""


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    task: Task | None = None
    waiting: deque[Any] = field(default_factory=deque)
    deadline: float = 0.0
    served: int = 0
    has_accepted: bool = False


_idle: list[_Worker] = []
_lock = threading.Lock()


def run(tasks: Iterable[Task], workers: int, limits: Limits) -> Iterator[Reply]:
    """Yield a reply for every item of every task; items of one task come in order, tasks as they finish.

    Args:
        tasks: Consumed as workers become free, so that a stream of any length needs little memory.
        workers: At most this many processes.
        limits: `seconds` caps each item, `memory_bytes` each worker.
    """
    queue, pending = iter(tasks), deque[Task]()
    active: list[_Worker] = []
    replies: list[Reply] = []
    selector = selectors.DefaultSelector()
    try:
        while True:
            while len(active) < workers:
                task = pending.popleft() if pending else next(queue, None)
                if task is None:
                    break
                worker = _checkout() if not task.attempts else _start()  # idle ones may have been frozen together
                active.append(worker)
                selector.register(worker.channel, selectors.EVENT_READ, worker)
                _assign(worker, task, limits)
            yield from replies  # not before the workers have something to do meanwhile
            if not active:
                return
            replies = list(_collect(selector, active, pending, limits))
    finally:
        selector.close()
        for worker in active:
            _kill(worker)


def _collect(
    selector: selectors.BaseSelector, active: list[_Worker], pending: deque[Task], limits: Limits
) -> Iterator[Reply]:
    """Wait for something to happen and yield what it means."""
    timeout = max(min(worker.deadline for worker in active) - time.monotonic(), 0.0)
    ready = {key.data for key, _ in selector.select(timeout)}
    now = time.monotonic()
    for worker in list(active):
        task = worker.task
        assert task is not None
        if worker not in ready and now < worker.deadline:
            continue
        value, death = _answer(worker) if worker in ready else ([], "time")
        if not death:
            worker.deadline = now + limits.seconds
            if not worker.has_accepted:
                worker.has_accepted = True
                continue
            for one in value:
                yield Reply(task, worker.waiting.popleft(), one)
            if worker.waiting:
                continue
        selector.unregister(worker.channel)
        active.remove(worker)
        if death:
            _kill(worker)
            yield from _after_death(worker, task, death, pending)
        else:
            _give_back(worker)


def _answer(worker: _Worker) -> tuple[list[Any], str]:
    """Return the next message of a worker, or how it died."""
    try:
        return receive(worker.channel)[0], ""
    except TimeoutError:
        return [], "time"  # half a message, then nothing
    except (EOFError, OSError, ValueError):
        return [], _cause(worker)


def _after_death(worker: _Worker, task: Task, death: str, pending: deque[Task]) -> Iterator[Reply]:
    """Find the file to blame and queue the rest again; a kill from outside is given a second chance.

    Of several files that may be to blame, each is tried alone.

    Raises:
        MedmmError: internal.error when workers end before they begin.
    """
    left = list(worker.waiting)
    if not worker.has_accepted:
        if task.attempts >= _START_ATTEMPTS:
            raise MedmmError("Decode workers end before they begin.", code="internal.error")
        pending.append(replace(task, items=left, attempts=task.attempts + 1))
    elif len(left) > 1:
        pending.extend(replace(task, items=[item]) for item in left[:GROUP])
        if left[GROUP:]:
            pending.append(replace(task, items=left[GROUP:]))
    elif death == "memory" and not task.was_killed:
        pending.append(replace(task, was_killed=True))
    else:
        yield Reply(task, left[0], death=death)


def _assign(worker: _Worker, task: Task, limits: Limits) -> None:
    worker.task, worker.waiting, worker.has_accepted = task, deque(task.items), False
    # Until it accepts: a busy machine starts processes slowly, but one that is there answers or is frozen.
    worker.deadline = time.monotonic() + (_WAKE_SECONDS if worker.served else _START_SECONDS)
    worker.served += len(task.items)
    worker.channel.settimeout(limits.seconds)
    request = {**task.request, task.key: task.encode(task.items), "limits": asdict(limits)}
    try:
        send(worker.channel, request, task.descriptor)
    except OSError:
        worker.deadline = 0.0  # found dead when its replies are due


def _checkout() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.process.poll() is None and worker.served < _RECYCLE_AFTER:
                return worker
            _kill(worker)
    return _start()


def _give_back(worker: _Worker) -> None:
    worker.task = None
    with _lock:
        if len(_idle) < _KEPT_IDLE:
            _idle.append(worker)
            return
    _kill(worker)


def _start() -> _Worker:
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    root = str(Path(__file__).resolve().parents[2])
    paths = json.dumps([root, *(entry for entry in sys.path if entry)])
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), paths],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    return _Worker(process, ours)


def _cause(worker: _Worker) -> str:
    """How a worker died, from its exit status: the kernel kills with SIGKILL when memory is out."""
    try:
        code = worker.process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "crash"
    return {-9: "memory", -14: "time"}.get(code, "crash")


def _kill(worker: _Worker) -> None:
    worker.channel.close()
    worker.process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a dead disk is left to the system
        worker.process.wait(timeout=5)


def _forget() -> None:
    """After a fork the workers belong to the parent: close this process's ends, leave the workers alone."""
    global _lock  # noqa: PLW0603  # a lock held by another thread at the fork would stay locked
    _lock = threading.Lock()
    for worker in _idle:
        worker.channel.close()
        worker.process.returncode = 0  # not ours to wait for
    _idle.clear()


def close_workers() -> None:
    """End the idle workers. They also end with the process that started them."""
    with _lock:
        while _idle:
            _kill(_idle.pop())


os.register_at_fork(after_in_child=_forget)
atexit.register(close_workers)
