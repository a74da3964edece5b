"""Faults of the machine: a full disk, decoders that die, files that change. Nothing finished is lost."""

import contextlib
import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pydicom
import pytest
from batch_cohort import N_CASES, digests
from pydicom.uid import RLELossless
from rule_model import RuleModel

from medmm.errors import StopRun
from medmm.synthetic import Cohort
from pipelines.config import RunLimits
from pipelines.diagnose import Job, diagnose_folder
from pipelines.events import CaseDone, Event

MakeJob = Callable[..., Job]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _failures(out: Path) -> list[dict[str, str]]:
    with (out / "failures.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _decoders() -> list[psutil.Process]:
    """Decode processes of this process that are alive."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it may end while it is looked at
            if any("medmm.dicom.worker" in part for part in child.cmdline()):
                found.append(child)
    return found


@pytest.mark.bad_input("H3")
def test_a_full_disk_stops_the_run_and_more_space_finishes_it(
    small_disk: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    with pytest.raises(StopRun) as caught:
        diagnose_folder(make_job(output=small_disk / "out"), RuleModel)
    finished = [path for path in (small_disk / "out" / "cases").iterdir() if path.name.startswith("case-")]
    shutil.copytree(small_disk / "out", tmp_path / "roomy")
    summary = diagnose_folder(make_job(output=tmp_path / "roomy", may_resume=True), RuleModel)
    diagnose_folder(make_job(), RuleModel)

    assert caught.value.code == "disk.full"
    assert 1 <= len(finished) < N_CASES
    assert summary.done_before >= len(finished) - 1
    assert digests(tmp_path / "roomy") == digests(make_job().output)


@pytest.mark.bad_input("H3")
@pytest.mark.parametrize("allowed", [0, 3, 11, 30, 40])
def test_a_disk_full_at_any_file_stops_the_run_and_leaves_nothing_torn(
    make_job: MakeJob, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def fail_later(handle: int) -> None:
        calls.append(handle)
        if len(calls) > allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    # One thread writes cases while another appends to the ledger, so the count is a moment and no particular file.
    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises((StopRun, OSError)) as caught:
        diagnose_folder(make_job(may_resume=True), RuleModel)
    monkeypatch.undo()
    diagnose_folder(make_job(may_resume=True), RuleModel)
    diagnose_folder(make_job(out="whole"), RuleModel)

    assert isinstance(caught.value, StopRun)
    assert caught.value.code == "disk.full"
    assert digests(make_job().output) == digests(make_job(out="whole").output)


@pytest.fixture
def compressed(cohort: Cohort, tmp_path: Path) -> Path:
    """The FLAIR series of the cohort, RLE compressed, so that decoders have something to do."""
    for path in sorted(cohort.studies.glob("*/series_flair/*")):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        target = tmp_path / "compressed" / path.relative_to(cohort.studies)
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target)
    return tmp_path / "compressed"


@pytest.mark.bad_input("H5")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_decoder_that_dies_costs_no_case(make_job: MakeJob, compressed: Path, number: int) -> None:
    hit = []

    def hit_all(event: Event) -> None:
        if isinstance(event, CaseDone) and event.done == 1:
            for child in _decoders():
                child.send_signal(number)
                hit.append(child.pid)

    summary = diagnose_folder(make_job(folder=compressed, limits=RunLimits(worker_seconds=2)), RuleModel, hit_all)

    assert hit
    assert (summary.cases, summary.refused) == (N_CASES, 0)


@pytest.mark.bad_input("H10")
def test_a_file_that_changes_after_discovery_refuses_its_case_only(
    make_job: MakeJob, cohort: Cohort, tmp_path: Path
) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(cohort.studies, studies)
    changed: list[Path] = []

    def change_the_last(event: Event) -> None:
        if isinstance(event, CaseDone) and not changed:
            rows = (tmp_path / "out" / "id_map.csv").read_text().splitlines()
            patient = rows[-1].split(",")[2]
            changed.append(next((studies / patient / "series_flair").iterdir()))
            changed[0].write_bytes(changed[0].read_bytes() + b"\0\0")

    diagnose_folder(make_job(folder=studies), RuleModel, change_the_last)

    assert [failure["code"] for failure in _failures(tmp_path / "out")] == ["io.changed"]


def test_files_that_are_no_files_are_skipped_and_never_waited_for(
    make_job: MakeJob, cohort: Cohort, tmp_path: Path
) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(cohort.studies / "PHANTOM-0000", studies / "one")
    os.mkfifo(studies / "pipe.dcm")
    (studies / "loop").symlink_to(studies)
    (studies / "gone.dcm").symlink_to(studies / "nowhere")
    (studies / "folder.dcm").mkdir()

    summary = diagnose_folder(make_job(folder=studies), RuleModel)

    assert (summary.cases, summary.refused) == (1, 0)


@pytest.mark.bad_input("H5")
@pytest.mark.parametrize("moment", [0.0, 0.3])
def test_no_decoder_outlives_a_killed_run(cohort: Cohort, tmp_path: Path, moment: float) -> None:
    rules = Path(__file__).with_name("rule_model.py")
    command = [
        sys.executable,
        str(rules),
        "diagnose",
        str(cohort.studies),
        "--model",
        "0.2",
        "--out",
        str(tmp_path / "o"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(400):
        if (children := psutil.Process(process.pid).children()) or process.poll() is not None:
            break
        time.sleep(0.01)
    time.sleep(moment)
    process.kill()
    process.wait()

    _, alive = psutil.wait_procs(children, timeout=10)
    assert children
    assert alive == []
