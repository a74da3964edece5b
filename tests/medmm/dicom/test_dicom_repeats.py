"""Headers that repeat are compared instead of walked: nothing but the time may change."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from dicom_builders import element, insert_before_pixels, make_slice, write, write_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from test_dicom_fuzz import damage

from medmm.dicom import header, source
from medmm.dicom.header import FileFacts, examine
from medmm.dicom.limits import DEFAULT_LIMITS
from medmm.dicom.repeats import Repeats

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "dicom"


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every header that is walked; starts without patterns."""
    seen: list[int] = []
    real = source.walk

    def counted(*arguments: object, **options: object) -> None:
        seen.append(1)
        real(*arguments, **options)

    monkeypatch.setattr(source, "walk", counted)
    forget()
    return seen


def forget() -> None:
    header._repeats[0] = Repeats(DEFAULT_LIMITS)


def one_by_one(paths: Iterable[Path]) -> list[FileFacts]:
    """Facts of files of which none knows the others."""
    found = []
    for path in paths:
        forget()
        found.append(examine(path, DEFAULT_LIMITS))
    return found


def in_a_row(paths: Iterable[Path]) -> list[FileFacts]:
    """Facts of files of which each may profit from those before."""
    forget()
    return [examine(path, DEFAULT_LIMITS) for path in paths]


def varied(folder: Path, syntax: str, **tags: object) -> list[Path]:
    """A series whose slices differ in values of several lengths, known and unknown ones, numbers and text."""
    return write_series(
        folder,
        12,
        syntax,
        ContentTime=lambda n: f"1200{n:02d}" + ".5" * (n % 2),
        SliceLocation=lambda n: 10.0 ** (n % 4) + n,
        WindowCenter=lambda n: 40 + 500 * (n % 3),
        RescaleSlope=lambda n: 1 + n / 8,
        ImageComments=lambda n: "x" * n,
        **tags,
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_series_is_walked_a_few_times_only(tmp_path: Path, walks: list[int], syntax: str) -> None:
    paths = varied(tmp_path, syntax)

    in_a_row(paths)

    assert len(walks) <= 4


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_files_are_the_same_whether_or_not_others_were_seen_before(tmp_path: Path, syntax: str) -> None:
    paths = varied(tmp_path, syntax)

    assert in_a_row(paths) == one_by_one(paths)


def test_echoes_that_take_turns_have_patterns_of_their_own(tmp_path: Path, walks: list[int]) -> None:
    paths = write_series(tmp_path, 12, modality="MR", EchoTime=lambda n: 10 + 80 * (n % 2))

    facts = in_a_row(paths)

    assert len(walks) <= 4
    assert [fact.instance.header.te_ms for fact in facts if fact.instance] == [10.0, 90.0] * 6


def test_a_second_series_of_the_same_kind_is_walked_once(tmp_path: Path, walks: list[int]) -> None:
    first = varied(tmp_path / "one", ExplicitVRLittleEndian)
    second = varied(tmp_path / "two", ExplicitVRLittleEndian, SeriesInstanceUID="1.2.3")
    in_a_row(first)
    walks.clear()

    facts = [examine(path, DEFAULT_LIMITS) for path in second]

    assert len(walks) == 1
    assert {fact.identity.series_uid for fact in facts if fact.identity} == {"1.2.3"}


def of_patient(n: int) -> dict[str, object]:
    return {"PatientID": f"P{n // 6}"}


def of_description(n: int) -> dict[str, object]:
    return {"SeriesDescription": f"part {n // 6}"}


def of_size(n: int) -> dict[str, object]:
    return {"Columns": 8 if n < 6 else 4, "Rows": 6 if n < 6 else 12}


def of_sequence(n: int) -> dict[str, object]:
    item = Dataset()
    item.ReferencedSOPInstanceUID = f"1.2.{n}"
    return {"ReferencedImageSequence": Sequence([item])}


@pytest.mark.parametrize("differing", [of_patient, of_description, of_size, of_sequence])
def test_what_makes_another_series_or_volume_is_never_overlooked(
    tmp_path: Path, differing: Callable[[int], dict[str, object]]
) -> None:
    paths = [write(make_slice(n, **differing(n)), tmp_path / f"{n:02d}") for n in range(12)]

    assert in_a_row(paths) == one_by_one(paths)


def test_bytes_behind_the_pixels_are_looked_at_in_every_file(tmp_path: Path) -> None:
    paths = varied(tmp_path, ExplicitVRLittleEndian)
    paths[8].write_bytes(paths[8].read_bytes() + b"surplus!")
    paths[9].write_bytes(paths[9].read_bytes()[:-3])
    insert_before_pixels(paths[10], element(0x7FDF0010, b"ZZ", b"odd"))

    facts = in_a_row(paths)

    assert facts == one_by_one(paths)
    assert [note.code for note in facts[8].instance.notes] == ["dicom.pixel_length"]
    assert facts[9].skipped.code == "dicom.truncated"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_damaged_files_are_judged_alike_whether_or_not_intact_ones_were_seen(tmp_path: Path, syntax: str) -> None:
    intact = varied(tmp_path, syntax)
    raw, rng = intact[5].read_bytes(), random.Random(7)
    paths = [tmp_path / f"damaged{n}" for n in range(300)]
    for path in paths:
        path.write_bytes(damage(raw, rng))

    assert in_a_row([*intact, *paths])[len(intact) :] == one_by_one(paths)


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the development data is not here")
@pytest.mark.parametrize("part", ["series", "variants", "messy"])
def test_real_files_are_the_same_whether_or_not_others_were_seen_before(part: str, walks: list[int]) -> None:
    paths = sorted(path for path in (DATA / part).rglob("*") if path.is_file())

    facts = in_a_row(paths)
    walked = len(walks)

    assert facts == one_by_one(paths)
    assert walked < len(paths) / 2
