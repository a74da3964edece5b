"""What a run tells while it goes on; `pipelines.cli` draws it. Nothing here names a person or a path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.ledger import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is to do: cases of this run, how many an earlier run finished, and files that are no input."""

    cases: int
    done_before: int
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """Something the user should know; `is_warning` when they can act on it."""

    message: str
    is_warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDone:
    """One case ended. `done` counts the finished cases of this run."""

    case_id: str
    status: Status
    done: int
    reason: str = ""
    code: str = ""


Event = Found | Told | CaseDone
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """How a run ended. The counts add up to the number of cases found."""

    output: Path
    ok: int
    warned: int
    refused: int
    done_before: int
    seconds: float
    peak_memory_mib: float
    stages: Mapping[str, Mapping[str, float]]
    refusals: Mapping[str, int] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """All cases."""
        return self.ok + self.warned + self.refused

    @property
    def exit_code(self) -> int:
        """0 when every case was diagnosed, 1 when some were refused."""
        return 1 if self.refused else 0
