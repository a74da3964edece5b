"""One step of one case: its value, or why the case is refused. The only place that catches everything."""

import errno
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from kg.errors import KgError
from medmm.errors import MedmmError, StopRun
from pipelines.ledger import stop_if_full

logger = logging.getLogger(__name__)

Stage = Literal["read", "diagnose", "explain", "write"]
Value = TypeVar("Value")

READ_TRIES = 3
RETRY_WAIT_S = 0.5
_TRANSIENT = frozenset((errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a case could not be diagnosed: a code of `medmm.errors.CODES`, what is wrong, what to do."""

    stage: Stage
    code: str
    reason: str
    remedy: str = ""


class StageClock:
    """Seconds spent per stage, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, stage: str, seconds: float, cases: int = 1) -> None:
        """Count the seconds of a stage, and the cases that it is done with by then."""
        with self._lock:
            self._seconds[stage] += seconds
            self._counts[stage] += cases

    def merge(self, table: Mapping[str, Mapping[str, float]]) -> None:
        """Add what another clock counted, as its `table`."""
        with self._lock:
            for stage, values in table.items():
                self._seconds[stage] += values["total_s"]
                self._counts[stage] += int(values["cases"])

    def take(self) -> Mapping[str, Mapping[str, float]]:
        """What was counted since the last time, as a `table`."""
        with self._lock:
            taken, self._seconds, counts = self._seconds, defaultdict(float), self._counts
            self._counts = defaultdict(int)
        return {stage: {"cases": counts[stage], "total_s": seconds} for stage, seconds in taken.items()}

    def table(self) -> Mapping[str, Mapping[str, float]]:
        """Per stage: `cases`, `total_s`, `mean_s`."""
        with self._lock:
            return {
                stage: {
                    "cases": count,
                    "total_s": round(self._seconds[stage], 3),
                    "mean_s": round(self._seconds[stage] / count, 4),
                }
                for stage, count in self._counts.items()
            }


def attempt(stage: Stage, work: Callable[[], Value], clock: StageClock | None = None) -> Value | Refused:
    """Return what `work` returns, or why the case ends here.

    Input and output errors that come and go on network disks are tried again, up to `READ_TRIES` times.

    Raises:
        StopRun: The disk is full, or the run was stopped: no matter of this case.
    """
    started = time.perf_counter()
    try:
        return _with_retries(work)
    except StopRun:
        raise
    except (MedmmError, KgError) as error:
        return Refused(stage=stage, code=error.code, reason=error.message, remedy=error.remedy)
    except MemoryError:
        return Refused(
            stage=stage,
            code="limit.memory",
            reason="The case needs more memory than it may use.",
            remedy="Run with fewer --workers, or allow more with --set worker_memory_gb=N.",
        )
    except OSError as error:
        stop = stop_if_full(error, 0)
        if isinstance(stop, StopRun):
            raise stop from error
        return Refused(stage=stage, code="io.read", reason=f"Reading or writing failed ({error.strerror}).")
    except Exception as error:  # one case must never cost the rest of the batch
        logger.debug("unexpected error in stage %s", stage, exc_info=True)
        return _unexpected(stage, error)
    finally:
        if clock is not None:
            clock.add(stage, time.perf_counter() - started)


def _with_retries(work: Callable[[], Value]) -> Value:
    for tried in range(READ_TRIES - 1):
        try:
            return work()
        except OSError as error:
            if error.errno not in _TRANSIENT:
                raise
            logger.info("input or output failed and is tried again (%s)", error.strerror)
            time.sleep(RETRY_WAIT_S * 2**tried)
    return work()


def _unexpected(stage: Stage, error: Exception) -> Refused:
    """An error of a kind that nobody foresaw; its text may hold an identifier, so only its kind is kept."""
    kind = type(error).__name__
    if kind == "OutOfMemoryError":  # torch.OutOfMemoryError, named so that torch need not be loaded here
        return Refused(
            stage=stage,
            code="limit.gpu_memory",
            reason="The volume does not fit into the device's memory.",
            remedy="Run this case with --device cpu.",
        )
    return Refused(
        stage=stage,
        code="internal.error",
        reason=f"An unexpected error of kind {kind}.",
        remedy="Run this case alone with --debug and report the traceback.",
    )
