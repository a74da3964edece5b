"""Watching a folder: rounds begin when it is quiet, do what is new, and end in the results of one run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rule_model import RuleModel

from medmm.synthetic import Cohort
from pipelines.diagnose import Job, diagnose_folder
from pipelines.events import CaseDone, RunSummary
from pipelines.watch import Patience, Watch, complete_rounds, diagnose_watching

MakeJob = Callable[..., Job]


class Script:
    """Time that jumps at each sleep, and things that happen then; over when nothing is left."""

    def __init__(self, *steps: tuple[float, Callable[[], object]]) -> None:
        self.now = 0.0
        self.steps = list(steps)

    def sleep(self, seconds: float) -> None:
        wait, act = self.steps.pop(0)
        self.now += wait
        act()

    def watch(self, quiet_s: float) -> Watch:
        return Watch(quiet_s=quiet_s, clock=lambda: self.now, sleep=self.sleep, is_over=lambda: not self.steps)


def _nothing() -> None:
    """Time passes."""


def test_a_round_begins_only_when_nothing_has_changed_for_the_quiet_period(tmp_path: Path) -> None:
    script = Script(
        (1, lambda: (tmp_path / "a").write_text("1")),
        (6, lambda: (tmp_path / "a").write_text("12")),  # still growing: the quiet period starts again
        (6, _nothing),
        (6, _nothing),
        (6, _nothing),
        (6, _nothing),
    )
    begun = [(script.now, ready.changed) for ready in complete_rounds([tmp_path], script.watch(10))]

    assert begun == [(19.0, 1)]


def test_later_files_make_another_round_that_counts_them_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    script = Script(
        (1, lambda: (tmp_path / "b").write_text("1")),
        (1, _nothing),
        (1, (tmp_path / "b").unlink),
        (1, _nothing),
        (1, _nothing),
    )

    assert [ready.changed for ready in complete_rounds([tmp_path], script.watch(0))] == [1, 1]


def test_a_study_that_still_grows_does_not_hold_up_the_others(tmp_path: Path) -> None:
    (tmp_path / "whole").write_text("1")
    growing = tmp_path / "growing"
    steps = [(4, lambda size=size: growing.write_text("x" * size)) for size in range(1, 6)]
    script = Script(*steps, (4, _nothing), (4, _nothing), (4, _nothing), (4, _nothing))

    rounds = [
        (script.now, {Path(name).name for name in ready.quiet})
        for ready in complete_rounds([tmp_path], script.watch(10))
    ]

    assert rounds == [(12.0, {"whole"}), (32.0, {"whole", "growing"})]


def test_watching_ends_in_the_results_of_one_run(cohort: Cohort, make_job: MakeJob, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    loads: list[int] = []
    ended: list[RunSummary] = []

    def arrive(number: int) -> Callable[[], object]:
        name = f"PHANTOM-{number:04d}"
        return lambda: shutil.copytree(cohort.studies / name, inbox / name)

    def load(device: str) -> RuleModel:
        loads.append(1)
        return RuleModel()

    script = Script((1, arrive(0)), (1, _nothing), (1, arrive(1)), (1, _nothing), (1, _nothing))
    config = make_job().config.model_copy(update={"explain": "none", "formats": ("json",)})
    watched = make_job("watched", folder=inbox, config=config)

    last = diagnose_watching(watched, load, script.watch(0), after_round=ended.append)

    diagnose_folder(make_job("once", folder=inbox, config=config), RuleModel)
    assert [(one.cases, one.done_before) for one in ended] == [(1, 0), (2, 1)]
    assert last == ended[-1]
    assert len(loads) == 1
    tables = [(tmp_path / name / "results.csv").read_bytes() for name in ("watched", "once")]
    assert tables[0] == tables[1]
    assert tables[0].count(b"\n") == 3


def test_half_a_study_waits_until_it_is_quiet(cohort: Cohort, make_job: MakeJob, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    shutil.copytree(cohort.studies / "PHANTOM-0000", inbox / "whole")
    source = sorted(path for path in (cohort.studies / "PHANTOM-0001").rglob("*") if path.is_file())
    ended: list[RunSummary] = []

    def copy(files: list[Path]) -> Callable[[], object]:
        def act() -> None:
            for path in files:
                target = inbox / "half" / path.relative_to(cohort.studies)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

        return act

    middle = len(source) // 2
    script = Script((4, copy(source[:middle])), (8, copy(source[middle:])), (6, _nothing), (6, _nothing), (6, _nothing))
    config = make_job().config.model_copy(update={"explain": "none", "formats": ("json",)})
    job = make_job(folder=inbox, config=config)

    diagnose_watching(job, RuleModel, script.watch(10), after_round=ended.append)

    assert [(one.cases, one.refused) for one in (ended[0], ended[-1])] == [(1, 0), (2, 0)]
    assert {one.refused for one in ended} == {0}


def test_a_folder_without_studies_is_waited_on(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "notes.txt").write_text("no study")
    script = Script((1, _nothing), (1, _nothing))
    told: list[object] = []

    last = diagnose_watching(make_job(folder=tmp_path / "inbox"), RuleModel, script.watch(0), told.append)

    assert last is None
    assert "no complete study" in repr(told)


@pytest.mark.parametrize("quiet_s", [0.0, 5.0])
def test_an_empty_folder_begins_no_round(tmp_path: Path, quiet_s: float) -> None:
    script = Script((9, _nothing), (9, _nothing))

    assert list(complete_rounds([tmp_path], script.watch(quiet_s))) == []


@pytest.mark.bad_input("H11")
def test_what_may_pass_is_tried_again_but_not_in_every_round(cohort: Cohort, make_job: MakeJob, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    model = RuleModel(babbles=True)  # every case ends in internal.error
    ended: list[RunSummary] = []

    def arrive(number: int) -> Callable[[], object]:
        name = f"PHANTOM-{number:04d}"
        return lambda: shutil.copytree(cohort.studies / name, inbox / name)

    script = Script((1, arrive(0)), (10, arrive(1)), (59, arrive(2)), (1, _nothing))

    diagnose_watching(make_job(folder=inbox), lambda device: model, script.watch(0), after_round=ended.append)

    tries = [model.diagnosed.count(case_id) for case_id in dict.fromkeys(model.diagnosed)]
    assert [(one.refused, one.done_before) for one in ended] == [(1, 0), (2, 1), (3, 1)]
    assert tries == [2, 1, 1]  # the first again after a minute, the second not yet


def test_the_pause_before_another_try_doubles_up_to_an_hour_and_ends_with_success() -> None:
    now = [0.0]
    patience = Patience(lambda: now[0])
    refused = CaseDone(case_id="case-a", status="refused", done=1, code="io.read", reason="")

    pauses = []
    for _ in range(8):
        patience.notice(refused)
        start = now[0]
        while "case-a" in patience.not_yet:
            now[0] += 30
        pauses.append(now[0] - start)
    patience.notice(refused)
    patience.notice(CaseDone(case_id="case-a", status="ok", done=1, code="", reason=""))

    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert patience.not_yet == frozenset()


def test_what_will_not_pass_is_not_waited_for() -> None:
    patience = Patience(lambda: 0.0)

    patience.notice(CaseDone(case_id="case-a", status="refused", done=1, code="series.gap", reason=""))

    assert patience.not_yet == frozenset()
