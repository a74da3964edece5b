"""Watch a folder: diagnose studies when they have stopped changing, again and again, into one output folder.

Every round is the ordinary batch with resume, so nothing is done twice, a changed study is done again, and the results
are those of one run over everything. A round begins when nothing under the folder has changed for the quiet period; in
the folder `studies/` that `medmm receive` fills, whole studies appear by rename.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from medmm.errors import UsageError
from pipelines.diagnose import Job, diagnose_folder
from pipelines.engine import StopSwitch
from pipelines.events import Listener, RunSummary, Told, ignore
from pipelines.judge import DiagnosesCases

Snapshot = dict[str, tuple[int, int]]  # path to size and modification time in nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How to watch. `is_over` ends it; `clock` and `sleep` are seconds, given in tests."""

    quiet_s: float = 30.0
    poll_s: float = 2.0
    is_over: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def complete_rounds(folder: Path, watch: Watch) -> Iterator[int]:
    """Yield how many files are new or changed, each time that there are some and all have been quiet.

    Args:
        folder: Everything under it counts, links to folders apart.
        watch: Quiet period and pace.
    """
    handled: Snapshot = {}
    seen, since = take_snapshot(folder), watch.clock()
    while not watch.is_over():
        now = take_snapshot(folder)
        if now != seen:
            seen, since = now, watch.clock()
        if seen != handled and watch.clock() - since >= watch.quiet_s:
            changed = sum(handled.get(path) != state for path, state in seen.items())
            handled = seen
            if changed:
                yield changed
                continue  # what came meanwhile is looked at before anybody sleeps
        watch.sleep(watch.poll_s)


def take_snapshot(folder: Path) -> Snapshot:
    """Return size and time of every file; what vanishes while being looked at is left out."""
    found: Snapshot = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)  # noqa: PTH118  # a Path a file doubles the time of a large folder
            try:
                status = os.lstat(path)
            except OSError:
                continue
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


def diagnose_watching(
    job: Job,
    load: Callable[[], DiagnosesCases],
    watch: Watch,
    listen: Listener = ignore,
    after_round: Callable[[RunSummary], None] = lambda summary: None,
) -> RunSummary | None:
    """Run the batch whenever the folder has new studies and is quiet, until `watch.is_over`.

    Args:
        job: The batch; its output folder may hold what an earlier watch wrote.
        load: Returns the model; called once.
        watch: Quiet period and pace.
        listen: Is told what happens in every round.
        after_round: Is told how each round ended, for example to send results back.
    Returns:
        The summary of the last round; None where there was none.
    Raises:
        UsageError: As `diagnose_folder`, except that a folder without studies is waited on.
        StopRun: The disk is full, or a signal; the same command goes on.
    """
    models: list[DiagnosesCases] = []

    def load_once() -> DiagnosesCases:
        if not models:
            models.append(load())
        return models[0]

    summary: RunSummary | None = None
    for changed in complete_rounds(job.folder, watch):
        listen(Told(f"{changed} files are new or changed and quiet."))
        try:
            summary = diagnose_folder(replace(job, may_resume=True), load_once, listen, StopSwitch())
        except UsageError as error:
            if not error.message.startswith("There is no DICOM study"):
                raise
            listen(Told("There is no study among them.", is_warning=True))
            continue
        after_round(summary)
    return summary
