"""Several workers and one case: whoever writes it, what ends in the folder is whole."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_cohort import N_CASES, digests
from rule_model import RuleModel

from medmm.cases import CasePlan
from medmm.errors import StopRun
from medmm.report.content import CaseReport
from medmm.types import Note
from pipelines.case_output import CaseWriter, Written, put_in_place
from pipelines.diagnose import Job, diagnose_folder
from pipelines.engine import Refused
from pipelines.events import CaseDone, Event
from pipelines.judge import Judged
from pipelines.output import LOCK_NAME

MakeJob = Callable[..., Job]


@pytest.mark.bad_input("H7")
def test_a_lost_worker_that_still_writes_a_case_takes_nothing_from_it(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnose_folder(make_job("undisturbed"), RuleModel)
    write, save = CaseWriter.write, CaseWriter._save
    judged_of: dict[str, Judged] = {}
    lost: list[str] = []

    def remember(writer: CaseWriter, plan: CasePlan, judged: Judged) -> Written | Refused:
        judged_of[plan.case_id] = judged
        return write(writer, plan, judged)

    def save_while_another_writes(
        writer: CaseWriter, report: CaseReport, staging: Path, plan: CasePlan
    ) -> tuple[Note, ...]:
        notes = save(writer, report, staging, plan)
        if plan.case_id not in lost:
            lost.append(plan.case_id)
            write(writer, plan, judged_of[plan.case_id])
        return notes

    monkeypatch.setattr(CaseWriter, "write", remember)
    monkeypatch.setattr(CaseWriter, "_save", save_while_another_writes)
    diagnose_folder(make_job("disturbed"), RuleModel)

    assert len(lost) == N_CASES
    assert digests(make_job("disturbed").output) == digests(make_job("undisturbed").output)


@pytest.mark.bad_input("H9")
def test_a_run_whose_folder_another_has_taken_over_writes_no_more_cases(make_job: MakeJob) -> None:
    job = make_job()
    other = {"host": "other-host", "pid": 1, "started": 1.0, "since_utc": "2026-01-01"}

    def take_over(event: Event) -> None:
        if isinstance(event, CaseDone):
            (job.output / LOCK_NAME).write_text(json.dumps(other))

    with pytest.raises(StopRun, match="does not hold the output folder") as caught:
        diagnose_folder(job, lambda device: RuleModel(device, seconds=0.3), take_over)

    assert caught.value.code == "run.interrupted"
    assert len(list((job.output / "cases").iterdir())) < N_CASES


@pytest.mark.bad_input("H7")
def test_a_worker_that_outlives_its_run_writes_no_more_cases(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, late = CaseWriter.write, list[tuple[CaseWriter, CasePlan, Judged]]()

    def remember(writer: CaseWriter, plan: CasePlan, judged: Judged) -> Written | Refused:
        late.append((writer, plan, judged))
        return write(writer, plan, judged)

    monkeypatch.setattr(CaseWriter, "write", remember)
    job = make_job()
    diagnose_folder(job, RuleModel)
    case = next((job.output / "cases").iterdir())
    whole, written = digests(job.output), case.stat().st_ino

    for writer, plan, judged in late:
        with pytest.raises(StopRun, match="does not hold the output folder"):
            write(writer, plan, judged)

    assert digests(job.output) == whole
    assert case.stat().st_ino == written  # not even replaced by its like


def test_workers_that_put_a_case_in_place_at_the_same_time_leave_one_of_them_whole(tmp_path: Path) -> None:
    final, names = tmp_path / "case-0", [f"{number}.txt" for number in range(5)]
    failed: list[BaseException] = []

    def put_often(worker: int) -> None:
        try:
            for turn in range(30):
                staging = tmp_path / f".writing-case-0-{worker}-{turn}"
                staging.mkdir()
                for name in names:
                    (staging / name).write_text(name)
                put_in_place(staging, final)
        except OSError as error:
            failed.append(error)

    workers = [threading.Thread(target=put_often, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert not failed
    assert [path.name for path in tmp_path.iterdir()] == ["case-0"]
    assert sorted(path.name for path in final.iterdir()) == names
