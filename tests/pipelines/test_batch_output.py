"""The output folder: who may use it, and what is never touched."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medmm.errors import UsageError
from pipelines.output import LOCK_NAME, OutputFolder, check_apart, clear, clear_staging, locked, prepare


def _lock(folder: Path, **owner: object) -> None:
    (folder / LOCK_NAME).write_text(json.dumps({"host": socket.gethostname(), "since_utc": "2026-01-01", **owner}))


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "a" / "b", may_continue=False, may_overwrite=False)

    assert folder.root.is_dir()
    assert list(folder.root.iterdir()) == []


@pytest.mark.bad_input("H4")
def test_a_folder_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(UsageError, match="cannot be written") as caught:
        prepare(tmp_path / "file" / "out", may_continue=False, may_overwrite=False)

    assert caught.value.code == "config.output"


@pytest.mark.bad_input("H4")
@pytest.mark.skipif(not Path("/proc/sys/kernel").is_dir(), reason="this system has no file system that takes no files")
def test_a_place_that_takes_no_files_is_wrong_usage_even_for_root() -> None:
    for place in (Path("/proc/sys/kernel"), Path("/proc/sys/kernel/results")):
        with pytest.raises(UsageError, match="cannot be written") as caught:
            prepare(place, may_continue=False, may_overwrite=False)

        assert caught.value.code == "config.output"


@pytest.mark.bad_input("H4")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_wrong_usage(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="cannot be written"):
            prepare(tmp_path, may_continue=False, may_overwrite=False)
    finally:
        tmp_path.chmod(0o700)


def test_foreign_files_are_refused_without_overwrite_and_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")

    for may_continue in (False, True):
        with pytest.raises(UsageError, match="1 files or folders that are not of a medmm run"):
            prepare(tmp_path, may_continue=may_continue, may_overwrite=False)
    clear(prepare(tmp_path, may_continue=False, may_overwrite=True))

    assert (tmp_path / "thesis.docx").read_text() == "years of work"


def test_what_a_killed_run_left_half_written_is_no_hindrance_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".abcd_123.tmp").write_text("half a table")
    (tmp_path / "cases" / ".writing-case-0" / "heatmaps").mkdir(parents=True)

    clear_staging(prepare(tmp_path, may_continue=True, may_overwrite=False))

    assert [path.name for path in tmp_path.rglob("*")] == ["cases"]


def test_clearing_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    (out / "cases").symlink_to(outside)

    clear(OutputFolder(out))

    assert (outside / "precious").exists()
    assert not (out / "cases").exists()


@pytest.mark.bad_input("G6")
@pytest.mark.parametrize(("source", "target"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "a/../a/c")])
def test_folders_in_one_another_are_refused(tmp_path: Path, source: str, target: str) -> None:
    with pytest.raises(UsageError, match="in one another"):
        check_apart(tmp_path / source, tmp_path / target)


def test_a_link_does_not_hide_that_folders_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "studies")

    with pytest.raises(UsageError, match="in one another"):
        check_apart(tmp_path / "studies", tmp_path / "link" / "out")


def test_neighbours_with_a_common_start_are_apart(tmp_path: Path) -> None:
    check_apart(tmp_path / "studies", tmp_path / "studies-out")


@pytest.mark.bad_input("G6", "H9")
def test_a_second_run_is_refused_while_the_first_holds_the_folder(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)

    with locked(folder), pytest.raises(UsageError, match=f"process {os.getpid()}"), locked(folder):
        pass
    with locked(folder):
        pass

    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.bad_input("H9")
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    _lock(tmp_path, pid=dead.pid, started=12345.0)

    with locked(OutputFolder(tmp_path)):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()


@pytest.mark.bad_input("H9")
def test_a_process_id_that_came_again_is_not_taken_for_the_owner(tmp_path: Path) -> None:
    _lock(tmp_path, pid=os.getpid(), started=12345.0)

    with locked(OutputFolder(tmp_path)):
        pass


@pytest.mark.bad_input("H9")
@pytest.mark.parametrize("content", ['{"host": "other-host", "pid": 1, "started": 1.0}', "", "{torn", "[1]"])
def test_a_lock_that_cannot_be_judged_is_explained(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_NAME).write_text(content)

    with pytest.raises(UsageError, match=r"remove the file \.lock") as caught, locked(OutputFolder(tmp_path)):
        pass

    assert caught.value.code == "config.output"
