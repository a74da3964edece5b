"""What it means that a process which holds the model dies: its case goes to another one, and not for ever."""

from dataclasses import dataclass

from medmm.errors import StopRun
from pipelines.engine.attempts import Refused

TRIES = 2
# How long a batch waits for processes that hold the model when it has none at all.
START_S = 300.0


@dataclass(frozen=True, slots=True)
class Death:
    """A process is gone; `code` says what is known of the cause."""

    code: str = "internal.error"

    def refusal(self) -> Refused:
        """Why a case on which `TRIES` processes died is refused."""
        return Refused(
            stage="diagnose",
            code=self.code,
            reason=f"The worker that had this case died {TRIES} times.",
            remedy="Run again with --resume, or this case alone on one device of this machine.",
        )


def no_workers(remedy: str) -> StopRun:
    """The end of a run that has lost all its workers."""
    return StopRun(
        "No worker is left and none could be started; what is finished is kept.",
        code="run.interrupted",
        remedy=remedy,
    )
