"""The header index: the second run reads nothing, and nothing that changed is trusted."""

import os
import stat
import time
from pathlib import Path

import pytest
from dicom_builders import make_slice, write, write_series

from medmm.dicom import discover, examine, index


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every path that is really opened."""
    seen: list[Path] = []
    real = examine.examine

    def counted(path: Path, limits: object) -> object:
        seen.append(path)
        return real(path, limits)

    monkeypatch.setattr(examine, "examine", counted)
    monkeypatch.setattr(index, "_SETTLED_S", 0.0)
    return seen


def run(folder: Path, store: Path) -> object:
    return discover(folder, workers=0, index=store)


def test_the_second_run_opens_no_file_and_finds_the_same(tmp_path: Path, reads: list[Path]) -> None:
    write_series(tmp_path / "data", 5)
    (tmp_path / "data" / "note.txt").write_text("words " * 50)
    store = tmp_path / "index"

    first = run(tmp_path / "data", store)
    opened = len(reads)
    second = run(tmp_path / "data", store)

    assert first == second
    assert (opened, len(reads)) == (6, 6)
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


def test_a_changed_file_is_read_again_though_size_and_time_look_the_same(tmp_path: Path, reads: list[Path]) -> None:
    path = write_series(tmp_path / "data", 3)[1]
    store = tmp_path / "index"
    run(tmp_path / "data", store)
    before = path.stat()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"Doe^Jane", b"Roe^Anne"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    del reads[:]

    run(tmp_path / "data", store)

    assert reads == [path]


def test_new_files_are_read_and_vanished_ones_are_gone(tmp_path: Path, reads: list[Path]) -> None:
    paths = write_series(tmp_path / "data", 3)
    store = tmp_path / "index"
    run(tmp_path / "data", store)
    paths[2].unlink()
    added = write(make_slice(2), tmp_path / "data" / "new")
    del reads[:]

    found = run(tmp_path / "data", store)

    assert reads == [added]
    assert set(found.studies[0].series[0].files) == {*paths[:2], added}


@pytest.mark.bad_input("H8")
@pytest.mark.parametrize("damage", ["torn", "flipped", "older", "empty", "noise"])
def test_a_damaged_or_older_index_is_not_trusted_and_not_an_error(
    tmp_path: Path, reads: list[Path], damage: str
) -> None:
    write_series(tmp_path / "data", 4)
    store = tmp_path / "index"
    expected = run(tmp_path / "data", store)
    raw = store.read_bytes()
    flipped = raw[:200] + bytes([raw[200] ^ 1]) + raw[201:]
    versions = {
        "torn": raw[: len(raw) // 2],
        "flipped": flipped,
        "older": raw.replace(b"[%d," % index.FORMAT, b"[1,", 1),
    }
    store.write_bytes({**versions, "empty": b"", "noise": os.urandom(3000)}[damage])
    del reads[:]

    found = run(tmp_path / "data", store)

    assert found == expected
    assert len(reads) == 4


def test_a_file_changed_a_moment_ago_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SETTLED_S", 3600.0)
    write_series(tmp_path / "data", 2)

    run(tmp_path / "data", tmp_path / "index")

    assert (tmp_path / "index").read_bytes() == b""


@pytest.mark.bad_input("C11")
@pytest.mark.slow
def test_ten_thousand_files_are_grouped_in_bounded_memory(tmp_path: Path) -> None:
    import tracemalloc

    template = write(make_slice(), tmp_path / "one.dcm").read_bytes()
    folder = tmp_path / "many"
    folder.mkdir()
    own = make_slice().SOPInstanceUID.encode()
    for n in range(10_000):
        new = f"1.2.{n:05d}".encode().ljust(len(own), b"1")
        content = template.replace(own, new).replace(b"30.0", f"{n:04d}".encode())
        (folder / f"{n}").write_bytes(content)

    started = time.monotonic()
    tracemalloc.start()
    found = discover(folder)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(len(series.slices) for series in found.studies[0].series) == 10_000
    assert size < 60 * 2**20
    assert time.monotonic() - started < 90
