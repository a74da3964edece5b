"""Inputs that are wrong in themselves, through the whole batch: what the results say of them."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from batch_cohort import N_CASES, digests
from rule_model import RuleModel, RuleSpec

from medmm.dicom import pool
from medmm.errors import UsageError
from medmm.synthetic import Cohort
from pipelines.config import RunConfig
from pipelines.diagnose import Job, diagnose_folder

MakeJob = Callable[..., Job]
RULES = Path(__file__).with_name("rule_model.py")
JSON_ONLY = RunConfig(explain="none", formats=("json",))


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _codes(out: Path) -> set[str]:
    return {code for row in _rows(out) for code in row["codes"].split()}


def _notes(out: Path) -> dict[str, list[str]]:
    """Codes of notes by case."""
    cases = [json.loads(path.read_text()) for path in sorted(out.glob("cases/*/case.json"))]
    return {case["case_id"]: [note["code"] for note in case["notes"]] for case in cases}


def _copy(source: Path, target: Path, **tags: object) -> None:
    """One phantom study with attributes changed in every file; None takes one out."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(place)


@pytest.mark.bad_input("D2")
def test_ids_equal_but_for_case_and_spaces_are_two_patients(cohort: Cohort, make_job: MakeJob, tmp_path: Path) -> None:
    for number, name in enumerate(["Smith 1", "SMITH 1", "smith1", "Smith  1"]):
        _copy(cohort.studies / f"PHANTOM-000{number}", tmp_path / "studies" / str(number), PatientID=name)
    job = make_job(folder=tmp_path / "studies", reports=None, records=None, config=JSON_ONLY)

    diagnose_folder(job, RuleModel)

    rows = _rows(job.output)
    assert len({row["case"] for row in rows}) == len(rows) == 4
    assert len(list((job.output / "cases").iterdir())) == 4


@pytest.mark.bad_input("D3")
def test_a_missing_patient_id_is_no_id_that_patients_share(cohort: Cohort, make_job: MakeJob, tmp_path: Path) -> None:
    for number, value in enumerate(["", None, " "]):
        _copy(cohort.studies / f"PHANTOM-000{number}", tmp_path / "studies" / str(number), PatientID=value)
    job = make_job(folder=tmp_path / "studies", reports=None, records=None, config=JSON_ONLY)

    summary = diagnose_folder(job, RuleModel)

    assert (summary.cases, summary.refused) == (3, 0)


@pytest.mark.bad_input("D8")
@pytest.mark.parametrize(
    "tags",
    [
        {"PatientAge": "950Y", "PatientSex": "X"},
        {"PatientAge": "abc", "PatientSex": "\x01"},
        {"PatientAge": None, "PatientBirthDate": "20990101", "StudyDate": "20200101", "PatientSex": "QQ"},
        {"PatientAge": None, "PatientBirthDate": "19991399", "StudyDate": "2020", "PatientSex": ""},
    ],
)
@pytest.mark.filterwarnings("ignore:.*alue.*:UserWarning")  # pydicom warns of what this test writes on purpose
def test_an_impossible_age_or_sex_is_left_out(
    cohort: Cohort, make_job: MakeJob, tmp_path: Path, tags: dict[str, object]
) -> None:
    _copy(cohort.studies / "PHANTOM-0000", tmp_path / "studies", **tags)
    job = make_job(folder=tmp_path / "studies", reports=None, records=None, config=JSON_ONLY)
    seen: list[object] = []

    class Seeing(RuleModel):
        def diagnose(self, case):  # type: ignore[no-untyped-def]  # as the model it stands for
            seen.append(case.record)
            return super().diagnose(case)

    summary = diagnose_folder(job, Seeing)

    assert summary.refused == 0
    assert [record.values if record else {} for record in seen] == [{}]
    assert "dicom.bad_value" in _codes(job.output)


@pytest.mark.bad_input("D7")
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of the character set
def test_every_output_is_utf8_whatever_the_character_set(cohort: Cohort, make_job: MakeJob, tmp_path: Path) -> None:
    _copy(cohort.studies / "PHANTOM-0000", tmp_path / "studies")
    for path in sorted((tmp_path / "studies").rglob("*.dcm")) or [
        path for path in (tmp_path / "studies").rglob("*") if path.is_file()
    ]:
        content = path.read_bytes()
        assert b"PHANTOM-0000" in content
        path.write_bytes(content.replace(b"PHANTOM-0000", b"PH\xff\xfe\xc3(M-0000"))
    job = make_job(folder=tmp_path / "studies", reports=None, records=None)

    summary = diagnose_folder(job, RuleModel)

    assert summary.refused == 0
    for path in job.output.rglob("*"):
        if path.suffix in (".csv", ".json", ".html", ".jsonl"):
            path.read_text(encoding="utf-8")


@pytest.mark.bad_input("E7")
def test_of_an_addendum_and_its_original_the_newest_is_read_and_the_choice_is_noted(
    cohort: Cohort, make_job: MakeJob, tmp_path: Path
) -> None:
    _copy(cohort.studies / "PHANTOM-0000", tmp_path / "studies")
    (tmp_path / "studies" / "report_1.txt").write_text("FINDINGS: Plaques. Ovoid plaques.\n")
    (tmp_path / "studies" / "report_2.txt").write_text("FINDINGS: Corrected: a dural mass, homogeneous.\n")
    job = make_job(folder=tmp_path / "studies", reports=None, records=None, config=JSON_ONLY)

    diagnose_folder(job, RuleModel)

    assert [row["diagnosis"] for row in _rows(job.output)] == ["meningioma"]
    assert all("report.choice" in codes for codes in _notes(job.output).values())


@pytest.mark.bad_input("E9")
@pytest.mark.parametrize("leak", ["warn", "mask"])
def test_a_report_that_names_the_answer_is_noted_or_covered(
    cohort: Cohort, make_job: MakeJob, tmp_path: Path, leak: str
) -> None:
    _copy(cohort.studies / "PHANTOM-0000", tmp_path / "studies")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "PHANTOM-0000.txt").write_text("FINDINGS: A mass. IMPRESSION: Known dural meningioma.\n")
    config = JSON_ONLY.model_copy(update={"label_leak": leak})
    job = make_job(folder=tmp_path / "studies", reports=tmp_path / "reports", config=config)
    seen: list[str] = []

    class Seeing(RuleModel):
        def diagnose(self, case):  # type: ignore[no-untyped-def]  # as the model it stands for
            seen.append(case.report.text)
            return super().diagnose(case)

    summary = diagnose_folder(job, Seeing)

    assert summary.refused == 0
    assert _codes(job.output) == {"report.label_leak"}
    assert ("meningioma" in seen[0]) == (leak == "warn")
    assert "dural" in seen[0]


@pytest.mark.bad_input("I3")
def test_text_burned_into_the_pixels_is_said_on_top_and_pictures_can_be_withheld(
    cohort: Cohort, make_job: MakeJob, tmp_path: Path
) -> None:
    _copy(cohort.studies / "PHANTOM-0000", tmp_path / "studies", BurnedInAnnotation="YES")
    shown = make_job("shown", folder=tmp_path / "studies", config=RunConfig(formats=("html",)))
    withheld = make_job(
        "withheld", folder=tmp_path / "studies", config=RunConfig(formats=("html",), withhold_images=True)
    )

    for job in (shown, withheld):
        diagnose_folder(job, RuleModel)

    pages = [next(job.output.glob("cases/*/report.html")).read_text() for job in (shown, withheld)]
    assert _codes(shown.output) == {"image.burned_in"}
    assert all("burned into its pixels" in page for page in pages)
    assert ["data:image" in page for page in pages] == [True, False]


@pytest.mark.bad_input("I7")
def test_no_picture_is_made_of_a_constant_volume(cohort: Cohort, make_job: MakeJob, tmp_path: Path) -> None:
    _copy(cohort.studies / "PHANTOM-0000", tmp_path / "studies")
    for path in (path for path in (tmp_path / "studies").rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path)
    job = make_job(folder=tmp_path / "studies")

    diagnose_folder(job, lambda device: RuleModel(explain_fails=True))

    assert not list(job.output.rglob("heatmaps/*"))
    assert "image.constant" in _codes(job.output)


@pytest.mark.bad_input("G7")
def test_a_gpu_that_is_not_there_starts_nothing_and_the_remedy_is_named(cohort: Cohort, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    from medmm.device import choose_device

    with pytest.raises(UsageError, match="--device cpu") as caught:
        choose_device("cuda")

    assert caught.value.code == "device.none"
    assert choose_device("auto").type == "cpu"


@pytest.mark.bad_input("H12")
def test_a_batch_asks_nothing_of_the_network(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a connection was tried: {self.family}")

    real = socket.socket.connect
    monkeypatch.setattr(
        socket.socket,
        "connect",
        lambda self, address: real(self, address) if self.family == socket.AF_UNIX else refuse(self, address),
    )
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a name was looked up"))

    summary = diagnose_folder(make_job(), RuleModel)

    assert summary.refused == 0


@pytest.mark.slow  # a process of its own
@pytest.mark.bad_input("H4")
@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process, as Linux has them")
def test_a_batch_works_with_few_file_handles(cohort: Cohort, tmp_path: Path) -> None:
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)); "
    run = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = ["diagnose", cohort.studies, "--model", 0, "--out", tmp_path / "out", "--explain", "none"]

    done = subprocess.run(
        [sys.executable, "-c", limited + run, str(RULES), *map(str, arguments), "--workers", "2"],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert len(_rows(tmp_path / "out")) == N_CASES


@pytest.mark.bad_input("H4")
def test_a_batch_writes_nothing_outside_its_output_folder(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "no-such-folder"
    monkeypatch.setattr("tempfile.tempdir", str(nowhere))  # a temporary folder that cannot be used

    summary = diagnose_folder(make_job(), RuleModel)

    assert summary.refused == 0
    assert not nowhere.exists()


@pytest.mark.bad_input("H6")
def test_decoders_that_froze_while_idle_are_replaced_within_seconds(
    cohort: Cohort, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_WAKE_SECONDS", 0.5)
    diagnose_folder(make_job("first", config=JSON_ONLY), RuleModel)
    frozen = [worker.process for worker in pool._idle]
    for process in frozen:
        process.send_signal(signal.SIGSTOP)

    started = time.monotonic()
    summary = diagnose_folder(make_job("second", config=JSON_ONLY), RuleModel)

    assert frozen
    assert summary.refused == 0
    assert time.monotonic() - started < 60
    assert digests(make_job("first").output) == digests(make_job("second").output)


@pytest.mark.bad_input("G4")
def test_a_model_of_other_series_refuses_every_study_by_name(make_job: MakeJob) -> None:
    job = make_job(config=JSON_ONLY)

    summary = diagnose_folder(job, lambda device: RuleModel(spec=RuleSpec(roles=("ct",))))

    assert dict(summary.refusals) == {"series.none": N_CASES}


class SmallDevice(RuleModel):
    """Has too little memory for the first `failures` attempts."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def diagnose(self, case):  # type: ignore[no-untyped-def]  # as the model it stands for
        if self.failures > 0:
            self.failures -= 1
            raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")  # as torch names it
        return super().diagnose(case)


@pytest.mark.bad_input("B16", "H5")
@pytest.mark.parametrize(("failures", "refused"), [(1, 0), (2, 1), (3, 1)])
def test_a_case_too_large_for_the_device_is_tried_once_more_then_refused_alone(
    make_job: MakeJob, failures: int, refused: int
) -> None:
    summary = diagnose_folder(make_job(config=JSON_ONLY), lambda device: SmallDevice(failures))

    assert dict(summary.refusals) == ({"limit.gpu_memory": refused} if refused else {})
    assert summary.cases == N_CASES
