"""The ledger: whole lines count, anything else does not, and a full disk is a stop."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmm.errors import StopRun
from medmm.types import Titles
from pipelines.ledger import Entry, Fingerprint, Ledger, read_ledger

FINGERPRINT = Fingerprint(parts={"model": "rules 1", "seed": "0"})
TITLES: Titles = {"grade": {"title": "WHO grade", "classes": {"G2": "Grade 2"}}}


def _write(path: Path, count: int = 3) -> None:
    with Ledger(path) as ledger:
        ledger.begin(FINGERPRINT, TITLES)
        ledger.plan(tuple(f"case-{number}" for number in range(count)))
        for number in range(count):
            ledger.add(_entry(number))


def _entry(number: int) -> Entry:
    return Entry(
        case_id=f"case-{number}",
        status="ok",
        stamp=f"stamp {number}",
        inputs={"flair": "ab"},
        row={"case": f"case-{number}", "p": 0.25, "text": "é\n\u2028🧠"},
        outputs={"case.json": 12},
        notes=(("series.choice", "one"),),
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "ledger")

    state = read_ledger(tmp_path / "ledger")

    assert state.fingerprint == FINGERPRINT
    assert state.titles == TITLES
    assert state.entries["case-1"] == _entry(1)
    assert state.planned == {"case-0", "case-1", "case-2"}
    assert state.ignored_lines == 0


def test_no_ledger_is_an_empty_state(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "none").fingerprint is None


def test_the_last_entry_of_a_case_counts(tmp_path: Path) -> None:
    _write(tmp_path / "ledger")
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.add(Entry(case_id="case-1", status="refused", stamp="later"))

    assert read_ledger(tmp_path / "ledger").entries["case-1"].stamp == "later"


@pytest.mark.bad_input("H8")
def test_a_ledger_cut_at_any_byte_loses_at_most_the_last_line(tmp_path: Path) -> None:
    _write(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()

    for cut in range(0, len(content) + 1, 7):
        (tmp_path / "cut").write_bytes(content[:cut])
        state = read_ledger(tmp_path / "cut")
        whole_lines = content[:cut].count(b"\n")

        assert len(state.entries) == max(0, whole_lines - 2)
        assert state.ignored_lines == (not content[:cut].endswith(b"\n") and cut > 0)


def test_lines_added_after_a_torn_one_are_read(tmp_path: Path) -> None:
    _write(tmp_path / "ledger")
    content = (tmp_path / "ledger").read_bytes()
    (tmp_path / "ledger").write_bytes(content[:-20])

    with Ledger(tmp_path / "ledger") as ledger:
        ledger.add(_entry(2))

    state = read_ledger(tmp_path / "ledger")
    assert len(state.entries) == 3
    assert state.ignored_lines == 1


@pytest.mark.bad_input("H8")
@settings(max_examples=200, deadline=None)
@given(place=st.integers(min_value=0, max_value=10_000), bit=st.integers(min_value=0, max_value=7))
def test_a_flipped_bit_is_never_trusted(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flip")
    _write(folder / "ledger")
    content = bytearray((folder / "ledger").read_bytes())
    content[place % len(content)] ^= 1 << bit
    (folder / "ledger").write_bytes(content)

    state = read_ledger(folder / "ledger")

    assert all(entry == _entry(int(case_id[5:])) for case_id, entry in state.entries.items())
    assert state.fingerprint in (None, FINGERPRINT)


@pytest.mark.bad_input("H8")
@pytest.mark.parametrize("version", [0, 2])
def test_a_ledger_of_another_version_is_not_trusted(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.ledger.VERSION", version)
    _write(tmp_path / "ledger")
    monkeypatch.undo()

    assert read_ledger(tmp_path / "ledger").fingerprint is None


@pytest.mark.bad_input("H3")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_stops_the_run_and_says_how_much_is_needed() -> None:
    with Ledger(Path("/dev/full")) as ledger, pytest.raises(StopRun, match=r"\d+ bytes needed") as caught:
        ledger.add(_entry(0))

    assert caught.value.code == "disk.full"
    assert "--resume" in caught.value.remedy


def test_fingerprints_name_what_differs() -> None:
    other = Fingerprint(parts={"model": "rules 2", "seed": "0", "lang": "en"})

    assert FINGERPRINT.differences(other) == ("lang", "model")
    assert FINGERPRINT.digest != other.digest
