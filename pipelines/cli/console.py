"""How the command line speaks: results to stdout, progress and errors to stderr, no colour where `NO_COLOR` is set."""

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipelines.events import CaseDone, Event, Found, Told

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_UNBOUNDED = 10_000  # columns
_CONTROL = dict.fromkeys((*range(32), 127, *range(128, 160)), " ")


def one_line(text: str) -> str:
    """`text` without control characters: nothing in it can move the cursor or start a new line of a log."""
    return text.translate(_CONTROL)


def stdout() -> "Console":
    """Where results go. Into a file or a pipe nothing is wrapped or cut, whatever the width of a terminal."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _UNBOUNDED)


def stderr() -> "Console":
    """Where everything else goes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)


def show_error(message: str, remedy: str, code: str) -> None:
    """What is wrong, what to do, and the code to look up."""
    from rich.text import Text

    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), one_line(message)), soft_wrap=True)
    if remedy:
        console.print(Text.assemble(("  do:   ", "bold"), one_line(remedy)), soft_wrap=True)
    console.print(Text.assemble(("  code: ", "bold"), code), soft_wrap=True)


class RunView:
    """Draws the events of a run: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.is_quiet = is_quiet
        self._console = stderr()
        self._is_live = self._console.is_terminal and not is_quiet and os.environ.get("TERM") != "dumb"
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._total = 0
        self._refused = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, Told):
            if event.is_warning or not self.is_quiet:
                self._say(("warning: " if event.is_warning else "") + event.message)
        elif self.is_quiet:
            return
        elif isinstance(event, Found):
            self._begin(event)
        else:
            self._advance(event)

    def _begin(self, event: Found) -> None:
        if self._progress is not None:  # of the round before, when a folder is watched
            self._progress.stop()
            self._progress, self._refused = None, 0
        self._total = event.cases - event.done_before
        before = f", {event.done_before} of them done before" if event.done_before else ""
        self._say(f"Found {event.cases} cases{before}.")
        if event.skipped:
            kinds = "; ".join(f"{count} x {one_line(reason)}" for reason, count in list(event.skipped.items())[:5])
            self._say(f"Not inputs: {kinds}.")
        if self._is_live and self._total:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[refused]} refused"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task("cases", total=self._total, refused=0, rate="")
            self._progress.start()

    def _advance(self, event: CaseDone) -> None:
        self._refused += event.status == "refused"
        if event.status == "refused":
            self._say(f"{event.case_id} refused: {one_line(event.reason)} ({event.code})")
        if self._progress is not None and self._task is not None:
            speed = self._progress.tasks[0].speed
            rate = f"{60 * speed:.0f} a minute" if speed else ""
            self._progress.update(self._task, completed=event.done, refused=self._refused, rate=rate)
        elif event.status != "refused":
            self._say(f"[{event.done}/{self._total}] {event.case_id} {event.status}")

    def _say(self, text: str) -> None:
        self._console.print(one_line(text), soft_wrap=True)
