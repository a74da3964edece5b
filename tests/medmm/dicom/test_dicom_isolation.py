"""Workers that crash, hang or run out of memory: one file is refused, everything behind it is read."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from dicom_builders import make_slice, write, write_series
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from medmm.dicom import discover, pool, threads
from medmm.dicom.limits import Limits
from medmm.dicom.volume import read_volume
from medmm.errors import InputError

# A worker whose reader dies on files with these names; a native decoder can do any of this.
SABOTAGE = """
import os, signal, time
from medmm.dicom import fill, header, worker
real_examine, real_fill = header.examine, fill.fill_from_file
def sabotage(path):
    if "segv" in path.name: os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in path.name: time.sleep(600)
    if "oom" in path.name: os.kill(os.getpid(), signal.SIGKILL)
    if "bomb" in path.name: bytearray(2**36)
def examine(path, limits):
    sabotage(path)
    return real_examine(path, limits)
def fill_from_file(instance, targets, limits, scratch):
    if "late" in instance.path.parent.name: sabotage(instance.path)
    return real_fill(instance, targets, limits, scratch)
header.examine, fill.fill_from_file = examine, fill_from_file
"""


def write_compressed(number: int, path: Path) -> Path:
    """A slice as RLE, so that a decoder has to touch it."""
    dataset = make_slice(number)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset["PixelData"].VR = "OW"
    dataset.compress(RLELossless, generate_instance_uid=False)
    return write(dataset, path, RLELossless)


@pytest.fixture(autouse=True)
def fresh_workers() -> None:
    """Each test starts its own workers and ends them, so that sabotage stays inside."""
    pool.close_workers()
    yield
    pool.close_workers()


@pytest.fixture
def sabotaged(monkeypatch: pytest.MonkeyPatch) -> None:
    start = pool._START.replace("from medmm.dicom.worker import main", SABOTAGE_CALL)
    monkeypatch.setattr(pool, "_START", start)


SABOTAGE_CALL = f"exec({SABOTAGE!r}); from medmm.dicom.worker import main"


@pytest.mark.bad_input("A6", "H5", "H6")
@pytest.mark.usefixtures("sabotaged")
@pytest.mark.parametrize(
    ("name", "code"),
    [("segv", "dicom.malformed"), ("hang", "limit.time"), ("oom", "limit.memory"), ("bomb", "limit.memory")],
)
def test_a_file_that_ends_its_reader_is_refused_and_the_files_behind_it_are_read(
    tmp_path: Path, name: str, code: str
) -> None:
    write_series(tmp_path, 6)
    write(make_slice(9), tmp_path / f"IM0002{name}.dcm")

    found = discover(tmp_path, workers=1, limits=Limits(seconds=1.5))

    assert [(skip.path.name, skip.code) for skip in found.skipped] == [(f"IM0002{name}.dcm", code)]
    assert [len(series.slices) for series in found.studies[0].series] == [6]


@pytest.mark.bad_input("H5")
@pytest.mark.usefixtures("sabotaged")
@pytest.mark.parametrize(
    ("name", "code"),
    [("segv", "decode.failed"), ("hang", "limit.time"), ("oom", "limit.memory"), ("bomb", "limit.memory")],
)
def test_a_decoder_that_dies_costs_its_own_series_only(tmp_path: Path, name: str, code: str) -> None:
    bad, good = tmp_path / "late", tmp_path / "good"
    for n in range(3):
        write_compressed(n, bad / f"IM{n:04d}.dcm")
    write_series(good, 3, SeriesInstanceUID=generate_uid())
    series = {one.files[0].parent.name: one for study in discover(tmp_path).studies for one in study.series}
    (bad / "IM0001.dcm").rename(bad / f"{name}.dcm")
    renamed = discover(bad, workers=0).studies[0].series[0]

    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        read_volume(renamed, workers=1, limits=Limits(seconds=1.5))

    assert caught.value.code == code
    assert time.monotonic() - started < 40  # a busy machine starts workers slowly; the hang alone would last longer
    assert read_volume(series["good"], workers=1).shape == (8, 6, 3)


@pytest.mark.bad_input("H6", "H11")
def test_a_disk_that_does_not_answer_is_given_up_after_the_time_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, 3)
    series = discover(tmp_path).studies[0].series[0]
    monkeypatch.setattr(threads, "fill_from_file", lambda *_: threading.Event().wait(3))

    with pytest.raises(InputError) as caught:
        read_volume(series, limits=Limits(seconds=0.3))

    assert caught.value.code == "limit.time"


@pytest.mark.bad_input("H11")
def test_a_disk_that_fails_for_good_is_an_error_and_one_that_recovers_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, 3)
    series = discover(tmp_path).studies[0].series[0]
    real, failures = os.preadv, [OSError(5, "EIO")]

    def failing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if failures:
            raise failures.pop()
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)

    assert read_volume(series, workers=0).shape == (8, 6, 3)
    failures.extend([OSError(5, "EIO")] * 9)
    with pytest.raises(InputError) as caught:
        read_volume(series, workers=0)
    assert caught.value.code == "io.read"


def test_a_header_that_the_disk_does_not_give_is_refused_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, 3)
    real, failures = os.pread, [OSError(5, "EIO")] * 3

    def failing(descriptor: int, size: int, offset: int) -> bytes:
        if failures:
            raise failures.pop()
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", failing)

    found = discover(tmp_path, workers=0)

    assert [item.code for item in found.skipped] == ["io.read"]
    assert len(found.studies[0].series[0].slices) == 2


@pytest.mark.bad_input("H5")
def test_a_worker_killed_while_idle_is_replaced(tmp_path: Path) -> None:
    write_series(tmp_path, 3)
    discover(tmp_path, workers=1)
    for worker in pool._idle:
        os.kill(worker.process.pid, signal.SIGKILL)

    assert read_volume(tmp_path, workers=2).shape == (8, 6, 3)


@pytest.mark.bad_input("H10")
def test_a_file_that_changed_since_discovery_is_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 3)
    series = discover(tmp_path).studies[0].series[0]
    write(make_slice(1, PatientComments="longer than before"), paths[1])

    with pytest.raises(InputError) as caught:
        read_volume(series)

    assert caught.value.code == "io.changed"


def test_a_file_that_vanished_since_discovery_is_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 3)
    series = discover(tmp_path).studies[0].series[0]
    paths[1].unlink()

    with pytest.raises(InputError) as caught:
        read_volume(series)

    assert caught.value.code == "io.unreadable"


def test_workers_and_this_process_give_the_same_voxels(tmp_path: Path) -> None:
    for n in range(20):
        write_compressed(n, tmp_path / str(n))
    series = discover(tmp_path).studies[0].series[0]

    volumes = [read_volume(series, workers=count) for count in (0, 1, 2)]

    for volume in volumes[1:]:
        np.testing.assert_array_equal(volume.voxels, volumes[0].voxels)


def test_a_forked_process_leaves_the_workers_of_its_parent_alone(tmp_path: Path) -> None:
    for n in range(3):
        write_compressed(n, tmp_path / str(n))
    discover(tmp_path, workers=1)
    child = os.fork()
    if child == 0:
        is_right = read_volume(tmp_path, workers=1).shape == (8, 6, 3)
        pool.close_workers()
        os._exit(0 if is_right else 1)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert read_volume(tmp_path, workers=1).shape == (8, 6, 3)
