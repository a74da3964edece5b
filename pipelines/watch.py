"""Watch a folder: diagnose studies when they have stopped changing, again and again, into one output folder.

Every round is the ordinary batch with resume, so nothing is done twice, a study that got more files is done again, and
the results are those of one run over everything. What was refused for a reason that may pass (a disk, memory) is tried
again in a later round, after a pause that doubles each time. A study is complete when none of its files has changed for
the quiet period; studies that still grow do not hold up the others. In the folder `studies/` that `medmm receive`
fills, whole studies appear by rename.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medmm.dicom.discover import walk_files
from pipelines.case_output import may_pass
from pipelines.diagnose import Job, NoStudyError, diagnose_folder
from pipelines.engine import StopSwitch, listening
from pipelines.events import CaseDone, Event, Listener, RunSummary, Told, ignore
from pipelines.judge import Load
from pipelines.runners import OpenRunner, Runner, Setting, open_runner

FIRST_RETRY_S, LAST_RETRY_S = 60.0, 3600.0
Snapshot = dict[str, tuple[int, int]]  # path to size and modification time in nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How to watch. `is_over` ends it; `clock` and `sleep` are seconds, given in tests."""

    quiet_s: float = 30.0
    poll_s: float = 2.0
    is_over: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class QuietFiles:
    """Which files have been as they are for the quiet period. What is there at the first look has just changed."""

    quiet_s: float
    _seen: Snapshot = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)

    def look(self, now: Snapshot, clock_s: float) -> set[str]:
        """Return the files that are quiet at this moment."""
        self._since = {
            path: self._since[path] if self._seen.get(path) == state else clock_s for path, state in now.items()
        }
        self._seen = now
        return {path for path, since in self._since.items() if clock_s - since >= self.quiet_s}


@dataclass(slots=True)
class Patience:
    """Cases refused for reasons that may pass wait longer each time: a minute, two, four, up to an hour."""

    clock: Callable[[], float]
    _tries: Counter[str] = field(default_factory=Counter)
    _due_s: dict[str, float] = field(default_factory=dict)

    def notice(self, event: Event) -> None:
        """Learn how a case ended."""
        if not isinstance(event, CaseDone):
            return
        if event.status == "refused" and may_pass(event.code):
            wait_s = min(FIRST_RETRY_S * 2 ** self._tries[event.case_id], LAST_RETRY_S)
            self._tries[event.case_id] += 1
            self._due_s[event.case_id] = self.clock() + wait_s
        else:
            self._tries.pop(event.case_id, None)
            self._due_s.pop(event.case_id, None)

    @property
    def not_yet(self) -> frozenset[str]:
        """Cases that are not tried again now."""
        now = self.clock()
        return frozenset(case_id for case_id, due_s in self._due_s.items() if due_s > now)


@dataclass(frozen=True, slots=True)
class Round:
    """What is ready: `quiet` files, of which `changed` are new or changed since they were last part of a round."""

    quiet: frozenset[str] = field(repr=False)
    changed: int


def complete_rounds(places: Sequence[Path], watch: Watch) -> Iterator[Round]:
    """Yield the quiet files each time that some are quiet which were not, in this state, part of a round.

    Args:
        places: Folders, of which everything counts, and files.
        watch: Quiet period and pace.
    """
    handled: Snapshot = {}
    files = QuietFiles(watch.quiet_s)
    while not watch.is_over():
        now = take_snapshot(places)
        quiet = files.look(now, watch.clock())
        changed = sum(handled.get(path) != now[path] for path in quiet)
        handled = {path: state for path, state in handled.items() if path in now} | {path: now[path] for path in quiet}
        if changed:
            yield Round(frozenset(quiet), changed)
            continue  # what came meanwhile is looked at before anybody sleeps
        watch.sleep(watch.poll_s)


def take_snapshot(places: Iterable[Path]) -> Snapshot:
    """Return size and time of every file in folders and of files themselves; what vanishes meanwhile is left out."""
    found: Snapshot = {}
    for place in places:
        for path in walk_files(place) if place.is_dir() else (place,):
            try:
                status = path.stat()
            except OSError:
                continue
            found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def diagnose_watching(
    job: Job,
    load: Load,
    watch: Watch,
    listen: Listener = ignore,
    after_round: Callable[[RunSummary], None] = lambda summary: None,
    switch: StopSwitch | None = None,
) -> RunSummary | None:
    """Run the batch whenever the folder has complete studies that are new or changed, until `watch.is_over`.

    Args:
        job: The batch; its output folder may hold what an earlier watch wrote. Reports and records are watched too.
        load: As for `diagnose_folder`; the model is loaded in the first round and kept.
        watch: Quiet period and pace.
        listen: Is told what happens in every round.
        after_round: Is told how each round ended, for example to send results back.
        switch: Ends watching in order when turned on; Ctrl-C and SIGTERM turn it on.
    Returns:
        The summary of the last round; None where there was none.
    Raises:
        UsageError: As `diagnose_folder`, except that a folder without studies is waited on.
        StopRun: The disk is full, or a signal; the same command goes on.
    """
    patience = Patience(watch.clock)

    def told(event: Event) -> None:
        patience.notice(event)
        listen(event)

    places = [place for place in (job.folder, job.reports, job.records) if place is not None]
    summary: RunSummary | None = None
    with listening(switch or StopSwitch()) as stop, ExitStack() as kept:
        open_once = _opening_once(kept)
        for ready in complete_rounds(places, replace(watch, is_over=lambda: stop.is_on or watch.is_over())):
            listen(Told(f"{ready.changed} files are new or changed and quiet."))
            this_round = replace(job, may_resume=True, ready=ready.quiet, not_yet=patience.not_yet)
            try:
                summary = diagnose_folder(this_round, load, told, stop, open_once)
            except NoStudyError:
                listen(Told("There is no complete study among them."))
                continue
            after_round(summary)
        stop.raise_if_on()
    return summary


def _opening_once(kept: ExitStack) -> OpenRunner:
    """As `open_runner`, but the runner of the first round stays open, with its model, as long as `kept` does."""
    runners: list[Runner] = []

    @contextmanager
    def open_once(engine: str, load: Load, setting: Setting, device: str) -> Iterator[Runner]:
        if not runners:
            runners.append(kept.enter_context(open_runner(engine, load, setting, device)))
        yield runners[0]

    return open_once
