"""Plain pixels copied by threads of this process, with a clock on every file."""

import threading
from collections.abc import Sequence

import numpy as np

from medmm.dicom.fill import Scratch, fill_from_file
from medmm.dicom.limits import Limits
from medmm.dicom.plan import FileJob, Filled, ReadPlan
from medmm.errors import InputError


def fill_by_threads(plan: ReadPlan, jobs: Sequence[FileJob], threads: int, limits: Limits) -> Filled:
    """Return the filled buffer; 0 threads fill it right here, without a clock.

    A thread that hangs on a dead network disk cannot be killed: it is left behind with its descriptor, and the series
    is refused.

    Raises:
        InputError: The first failure, or limit.time.
    """
    buffer = np.empty(plan.buffer_shape, dtype=np.float32)
    work = _Work(plan.view(buffer), jobs, limits)
    if threads == 0:
        work.run()
    else:
        for _ in range(min(threads, len(jobs))):
            threading.Thread(target=work.run, daemon=True).start()
        work.wait(min(threads, len(jobs)))
    if work.failure is not None:
        raise work.failure
    return Filled(buffer, min(work.lows), max(work.highs))


class _Work:
    """Files in a queue; every thread takes the next until one fails."""

    def __init__(self, view: np.ndarray, jobs: Sequence[FileJob], limits: Limits) -> None:
        self.view, self.limits = view, limits
        self.queue = iter(jobs)
        self.changed = threading.Condition()
        self.finished = 0
        self.files = 0
        self.failure: Exception | None = None
        self.lows: list[float] = []
        self.highs: list[float] = []

    def run(self) -> None:
        """Fill until nothing is left."""
        scratch = Scratch()
        try:
            while self.failure is None:
                with self.changed:
                    job = next(self.queue, None)
                if job is None:
                    break
                places = [(job.instance.frames[n], self.view[place]) for n, place in job.targets]
                low, high = fill_from_file(job.instance, places, self.limits, scratch)
                self.lows.append(low)
                self.highs.append(high)
                self.files += 1
        except (InputError, MemoryError, ValueError, TypeError, ArithmeticError) as error:
            self.failure = error
        with self.changed:
            self.finished += 1
            self.changed.notify_all()

    def wait(self, threads: int) -> None:
        """Wait for the threads; give up when no file was finished within the time cap."""
        with self.changed:
            while self.finished < threads:
                before = self.files
                ended = self.changed.wait(self.limits.seconds)
                if not ended and self.files == before:
                    self.failure = InputError(
                        f"Expected a file to be read within {self.limits.seconds:g} s (the disk does not answer).",
                        code="limit.time",
                        remedy="Copy the series to a local disk.",
                    )
                    return
