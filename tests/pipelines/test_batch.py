"""A batch: every case ends in one row, one bad case costs nobody else, and results depend on the input alone."""

import csv
import json
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from batch_cohort import N_CASES, digests
from rule_model import RuleModel, RuleSpec

from medmm.dicom.examine import examine_all
from medmm.errors import CODES, StopRun, UsageError
from medmm.synthetic import Cohort
from pipelines.config import RunConfig, build_config, build_limits, settings_from
from pipelines.diagnose import Job, diagnose_folder
from pipelines.engine import StopSwitch
from pipelines.events import CaseDone, Event, Found, Told

MakeJob = Callable[..., Job]


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def whole(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an uninterrupted run with one worker."""
    root = tmp_path_factory.mktemp("whole")
    (root / "id_key").write_bytes(bytes(32))
    job = Job(
        folder=cohort.studies,
        output=root / "out",
        reports=cohort.reports,
        records=cohort.records,
        id_key=root / "id_key",
    )
    diagnose_folder(job, RuleModel)
    return root / "out"


def test_every_study_gets_a_row_and_a_folder(whole: Path) -> None:
    rows = _table(whole / "results.csv")

    assert len(rows) == N_CASES
    assert {row["status"] for row in rows} <= {"ok", "warn"}
    assert all(set(row["codes"].split()) <= set(CODES) for row in rows)
    for row in rows:
        folder = whole / "cases" / row["case"]
        assert (folder / "report.html").is_file()
        assert (folder / "case.json").is_file()
        assert list((folder / "heatmaps").iterdir())
        assert float(row["diagnosis.probability"]) > 0
    assert _table(whole / "failures.csv") == []
    assert [row["case"] for row in rows] == sorted(row["case"] for row in rows)
    assert (whole / "index.html").is_file()


@pytest.mark.bad_input("I1")
def test_the_id_map_is_private_and_says_who_is_who(whole: Path) -> None:
    rows = _table(whole / "id_map.csv")

    assert stat.S_IMODE((whole / "id_map.csv").stat().st_mode) == 0o600
    assert {row["patient_id"] for row in rows} == {f"PHANTOM-{index:04d}" for index in range(N_CASES)}
    assert {row["id"] for row in rows} == {row["case"] for row in _table(whole / "results.csv")}


@pytest.mark.bad_input("I11")
def test_the_run_record_names_versions_hashes_times_and_counts(whole: Path) -> None:
    run = json.loads((whole / "run.json").read_text())

    assert run["cases"]["found"] == N_CASES == run["cases"]["ok"] + run["cases"]["warn"] + run["cases"]["refused"]
    assert set(run["stages"]) == {"read", "diagnose", "explain", "write"}
    assert run["settings"]["weights_sha256"] == "0" * 64
    assert run["settings"]["graph_hash"] == "1" * 64
    assert run["settings"]["device"] == "cpu"
    assert run["libraries"]["pydicom"]
    assert run["peak_memory_mib"] > 10
    assert len(run["inputs"]) == N_CASES


@pytest.mark.bad_input("I8")
@pytest.mark.parametrize("workers", [2, 4])
def test_the_number_of_workers_changes_no_byte(whole: Path, make_job: MakeJob, workers: int) -> None:
    job = make_job(workers=workers)

    diagnose_folder(job, RuleModel)

    assert digests(job.output) == digests(whole)


@pytest.mark.bad_input("I8")
def test_other_folders_and_file_names_change_no_byte_but_the_id_map(
    whole: Path, make_job: MakeJob, cohort: Cohort, tmp_path: Path
) -> None:
    for number, study in enumerate(sorted(cohort.studies.iterdir())):
        shutil.copytree(study, tmp_path / "moved" / f"{99 - number}" / "deep")
    job = make_job(folder=tmp_path / "moved")

    diagnose_folder(job, RuleModel)

    ours, theirs = digests(job.output), digests(whole)
    assert ours.pop("id_map.csv") != theirs.pop("id_map.csv")
    assert ours == theirs


@pytest.mark.bad_input("I1")
def test_a_case_that_breaks_the_model_is_one_row_of_failures(make_job: MakeJob, cohort: Cohort) -> None:
    job = make_job()
    age = next(case.age_years for case in cohort.cases if case.record_has_age)

    summary = diagnose_folder(job, lambda device: RuleModel(crash_age=age))

    (failure,) = _table(job.output / "failures.csv")
    assert (summary.refused, summary.ok + summary.warned, summary.exit_code) == (1, N_CASES - 1, 1)
    assert (failure["stage"], failure["code"]) == ("diagnose", "internal.error")
    assert "ZeroDivisionError" in failure["reason"]
    assert "SECRET" not in "".join(path.read_text() for path in job.output.glob("*.*"))
    assert len(_table(job.output / "results.csv")) == N_CASES
    assert not (job.output / "cases" / failure["case"]).exists()


def test_a_broken_study_is_refused_and_the_rest_is_diagnosed(make_job: MakeJob, cohort: Cohort, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(cohort.studies, studies)
    victim = sorted((studies / "PHANTOM-0000" / "series_flair").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:-100])
    job = make_job(folder=studies)

    summary = diagnose_folder(job, RuleModel)

    (failure,) = _table(job.output / "failures.csv")
    assert summary.refused == 1
    assert failure["stage"] == "read"
    assert failure["code"] == "dicom.truncated"
    assert failure["remedy"]


@pytest.mark.bad_input("I7")
def test_a_failed_explanation_leaves_the_diagnosis_with_a_warning(make_job: MakeJob) -> None:
    job = make_job()

    diagnose_folder(job, lambda device: RuleModel(explain_fails=True))

    rows = _table(job.output / "results.csv")
    assert {row["status"] for row in rows} == {"warn"}
    assert all("explain.failed" in row["codes"].split() for row in rows)
    assert all(row["diagnosis"] for row in rows)
    case = json.loads((job.output / "cases" / rows[0]["case"] / "case.json").read_text())
    assert "explain.failed" in {note["code"] for note in case["notes"]}


def test_no_explanation_is_made_where_none_is_wanted(make_job: MakeJob) -> None:
    job = make_job(config=RunConfig(explain="none"))

    diagnose_folder(job, lambda device: RuleModel(explain_fails=True))

    assert not any("explain.failed" in row["codes"] for row in _table(job.output / "results.csv"))
    assert not list(job.output.rglob("heatmaps/*"))


def test_events_tell_what_is_found_and_how_each_case_ends(make_job: MakeJob) -> None:
    events: list[Event] = []

    diagnose_folder(make_job(), RuleModel, events.append)

    found = [event for event in events if isinstance(event, Found)]
    done = [event.done for event in events if isinstance(event, CaseDone)]
    assert [event.cases for event in found] == [N_CASES]
    assert done == list(range(1, N_CASES + 1))


def test_resume_of_a_finished_run_does_nothing_again(make_job: MakeJob, whole: Path) -> None:
    diagnose_folder(make_job(), RuleModel)
    model = RuleModel()

    summary = diagnose_folder(make_job(may_resume=True), lambda device: model)

    assert model.diagnosed == []
    assert summary.done_before == N_CASES
    assert digests(make_job().output) == digests(whole)


@pytest.mark.bad_input("H2")
def test_a_stopped_run_keeps_what_is_finished_and_resumes_to_the_same_bytes(make_job: MakeJob, whole: Path) -> None:
    switch = StopSwitch(grace_s=60)

    def stop_after_two(event: Event) -> None:
        if isinstance(event, CaseDone) and event.done == 2:
            switch.turn_on(2)

    with pytest.raises(StopRun) as caught:
        diagnose_folder(make_job(), RuleModel, stop_after_two, switch)
    switch.disarm()
    kept = len(_table(make_job().output / "results.csv"))
    model = RuleModel()
    summary = diagnose_folder(make_job(may_resume=True), lambda device: model)

    assert caught.value.code == "run.interrupted"
    assert 2 <= kept < N_CASES
    assert summary.done_before == kept
    assert len(model.diagnosed) == N_CASES - kept
    assert digests(make_job().output) == digests(whole)


@pytest.mark.bad_input("H8")
def test_a_damaged_ledger_line_or_a_missing_output_has_its_case_done_again(make_job: MakeJob, whole: Path) -> None:
    job = make_job()
    diagnose_folder(job, RuleModel)
    lines = (job.output / "ledger.jsonl").read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace('"status"', '"Status"', 1)
    (job.output / "ledger.jsonl").write_text("".join(lines) + "0123 {torn")
    first_case = sorted((job.output / "cases").iterdir())[0]
    (first_case / "case.json").unlink()
    model, events = RuleModel(), []

    diagnose_folder(make_job(may_resume=True), lambda device: model, events.append)

    assert len(model.diagnosed) == 2
    assert any(isinstance(event, Told) and "damaged" in event.message for event in events)
    assert digests(job.output) == digests(whole)


@pytest.mark.bad_input("H10")
def test_changed_vanished_and_new_studies_are_told_on_resume(
    make_job: MakeJob, cohort: Cohort, tmp_path: Path, whole: Path
) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(cohort.studies, studies)
    (studies / "PHANTOM-0003").rename(tmp_path / "later")
    diagnose_folder(make_job(folder=studies), RuleModel)
    (tmp_path / "later").rename(studies / "PHANTOM-0003")
    shutil.rmtree(studies / "PHANTOM-0004")
    reports = tmp_path / "reports"
    shutil.copytree(cohort.reports, reports)
    model, told = RuleModel(), []

    diagnose_folder(
        make_job(folder=studies, may_resume=True, reports=reports),
        lambda device: model,
        lambda event: told.append(event.message) if isinstance(event, Told) else None,
    )

    assert len(model.diagnosed) == 1
    assert any("1 studies are new" in message for message in told)
    assert any("1 studies of the earlier run are not there" in message for message in told)
    assert len(_table(make_job().output / "results.csv")) == N_CASES - 1


@pytest.mark.bad_input("H10")
def test_a_changed_input_file_has_its_case_done_again(make_job: MakeJob, cohort: Cohort, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    shutil.copytree(cohort.reports, reports)
    diagnose_folder(make_job(reports=reports), RuleModel)
    changed = reports / "PHANTOM-0000.txt"
    changed.write_text(changed.read_text() + "Plaques. Ovoid plaques. Plaques.\n")
    model = RuleModel()

    diagnose_folder(make_job(reports=reports, may_resume=True), lambda device: model)

    assert len(model.diagnosed) == 1


@pytest.mark.bad_input("G6")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": RunConfig(explain="none")}, "config.explain"),
        ({"config": RunConfig(seed=7)}, "config.seed"),
        ({"shard": (1, 2)}, "shard"),
    ],
)
def test_another_configuration_does_not_resume(make_job: MakeJob, change: dict[str, object], named: str) -> None:
    diagnose_folder(make_job(), RuleModel)

    with pytest.raises(UsageError, match=named) as caught:
        diagnose_folder(make_job(may_resume=True, **change), RuleModel)

    assert caught.value.code == "config.output"


@pytest.mark.bad_input("G6")
def test_another_model_does_not_resume(make_job: MakeJob) -> None:
    diagnose_folder(make_job(), RuleModel)

    with pytest.raises(UsageError, match="weights_sha256"):
        diagnose_folder(make_job(may_resume=True), lambda device: RuleModel(spec=RuleSpec(weights_sha256="f" * 64)))


@pytest.mark.bad_input("G6")
def test_overwrite_replaces_a_run_and_leaves_other_files(make_job: MakeJob, whole: Path) -> None:
    diagnose_folder(make_job(config=RunConfig(formats=("json",))), RuleModel)
    (make_job().output / "notes.txt").write_text("mine")

    with pytest.raises(UsageError, match="are not of a medmm run"):
        diagnose_folder(make_job(), RuleModel)
    diagnose_folder(make_job(may_overwrite=True), RuleModel)

    found = digests(make_job().output)
    assert (make_job().output / "notes.txt").read_text() == "mine"
    del found["notes.txt"]
    assert found == digests(whole)


@pytest.mark.bad_input("G6")
def test_an_earlier_run_is_not_touched_unasked(make_job: MakeJob) -> None:
    diagnose_folder(make_job(), RuleModel)

    with pytest.raises(UsageError, match="--resume") as caught:
        diagnose_folder(make_job(), RuleModel)

    assert caught.value.code == "config.output"


@pytest.mark.bad_input("G6")
def test_output_and_input_may_not_lie_in_one_another(make_job: MakeJob, cohort: Cohort) -> None:
    for output in (cohort.studies / "out", cohort.studies.parent, cohort.studies):
        with pytest.raises(UsageError, match="in one another"):
            diagnose_folder(make_job(output=output), RuleModel)

    assert not (cohort.studies / "out").exists()


def test_nothing_is_started_for_a_wrong_table_or_folder(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text("age,sex\n4,F\n")
    (tmp_path / "empty").mkdir()

    def never(device: str) -> RuleModel:
        raise AssertionError("the model was loaded")

    with pytest.raises(UsageError, match="key column"):
        diagnose_folder(make_job(records=tmp_path / "records.csv"), never)
    with pytest.raises(UsageError, match="none of this name"):
        diagnose_folder(make_job(folder=tmp_path / "missing"), never)
    with pytest.raises(UsageError, match="no DICOM study"):
        diagnose_folder(make_job(folder=tmp_path / "empty"), RuleModel)
    assert not (tmp_path / "out" / "results.csv").exists()


def test_a_study_without_a_needed_series_is_refused_by_name(make_job: MakeJob, cohort: Cohort, tmp_path: Path) -> None:
    study = tmp_path / "studies" / "one"
    shutil.copytree(cohort.studies / "PHANTOM-0000" / "series_t1", study)
    job = make_job(folder=tmp_path / "studies")

    diagnose_folder(job, lambda device: RuleModel(spec=RuleSpec(roles=("flair",))))

    (failure,) = _table(job.output / "failures.csv")
    assert failure["code"] == "series.none"


@pytest.mark.bad_input("G5")
def test_settings_name_the_key_and_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="worker_memory_gb"):
        settings_from(["worker_memory=4"])
    with pytest.raises(UsageError, match="each key once"):
        settings_from(["seed=1", "seed=2"])
    with pytest.raises(UsageError, match="'formats'"):
        build_config(formats=("docx",))
    with pytest.raises(UsageError, match="'lang'"):
        build_config(lang="xx")
    with pytest.raises(UsageError, match="'worker_seconds'"):
        build_limits(worker_seconds="-1")
    assert build_config(**settings_from(["seed=3"])).seed == 3


def test_an_index_of_headers_changes_no_byte_and_spares_reading_them(
    make_job: MakeJob, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "headers"
    diagnose_folder(make_job("first", index=index), RuleModel)
    read: list[Path] = []

    def count(paths: Iterable[Path], *rest: object) -> Iterator[tuple[Path, object]]:
        for path in paths:
            read.append(path)
            yield from real([path], *rest)

    real = examine_all
    monkeypatch.setattr("medmm.dicom.index.examine_all", count)
    diagnose_folder(make_job("second", index=index), RuleModel)

    assert read == []
    assert stat.S_IMODE(index.stat().st_mode) == 0o600
    assert digests(make_job("first").output) == digests(make_job("second").output) == digests(whole)


def test_an_index_that_cannot_be_written_starts_nothing(make_job: MakeJob, tmp_path: Path) -> None:
    for index in (tmp_path, tmp_path / "missing" / "headers"):
        with pytest.raises(UsageError, match="index of headers") as caught:
            diagnose_folder(make_job(index=index), RuleModel)

        assert caught.value.code == "config.output"
