"""2,000 damaged variants of small valid files, from a seed: no crash, no hang, no volume of a silently wrong size."""

import os
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dicom_builders import SERIES_UID, STUDY_UID, make_slice, write
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from medmm.dicom import discover
from medmm.dicom.types import Series
from medmm.dicom.volume import read_volume
from medmm.errors import CODES, InputError

FILES = 2000
SECONDS_A_FILE = 5.0


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A valid slice each in explicit, implicit and RLE encoding."""
    folder = tmp_path_factory.mktemp("sources")
    packed = make_slice(2)
    packed.file_meta = FileMetaDataset()
    packed.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    packed["PixelData"].VR = "OW"
    packed.compress(RLELossless, generate_instance_uid=False)
    paths = [
        write(make_slice(0), folder / "explicit", ExplicitVRLittleEndian),
        write(make_slice(1, modality="MR"), folder / "implicit", ImplicitVRLittleEndian),
        write(packed, folder / "rle", RLELossless),
    ]
    return [path.read_bytes() for path in paths]


def damage(raw: bytes, rng: random.Random) -> bytes:
    """One to eight bits flipped, or cut, or a run of bytes doubled or removed; never in the preamble."""
    made = bytearray(raw)
    kind, at, length = rng.random(), rng.randrange(128, len(raw)), rng.randint(1, 64)
    if kind < 0.6:
        for _ in range(rng.randint(1, 8)):
            made[rng.randrange(128, len(raw))] ^= 1 << rng.randrange(8)
    elif kind < 0.8:
        del made[at:]
    elif kind < 0.9:
        made[at:at] = made[at : at + length]
    else:
        del made[at : at + length]
    return bytes(made)


def read_outcome(series: Series) -> str:
    """`read` or the code of the refusal; fails on a volume whose size nothing vouches for."""
    try:
        volume = read_volume(series, workers=1)
    except InputError as error:
        return error.code
    is_original = sorted(volume.shape) == [1, 6, 8]
    is_noted = "dicom.pixel_length" in {note.code for note in volume.notes}
    assert is_original or is_noted, f"{series.files[0].name}: {volume.shape} without a word"
    assert np.isfinite(volume.voxels).all()
    return "read"


@pytest.mark.bad_input("A4", "A6")
def test_damaged_files_never_crash_hang_or_give_a_volume_of_a_silently_wrong_size(
    tmp_path: Path, sources: list[bytes]
) -> None:
    rng = random.Random(20)
    for n in range(FILES):
        # A study and series of its own for each, as long as the original UIDs, so that no file stands in for another.
        whole = rng.choice(sources)
        for uid, digit in ((STUDY_UID, "7"), (SERIES_UID, "8")):
            whole = whole.replace(uid.encode(), f"1.2.{n}.".ljust(len(uid), digit).encode())
        (tmp_path / f"{n:04d}").write_bytes(damage(whole, rng))

    started = time.monotonic()
    found = discover(tmp_path, workers=1)
    discovery_s = time.monotonic() - started
    counts = Counter(skip.code or "listed" for skip in found.skipped)
    slowest_s = 0.0
    for series in (one for study in found.studies for one in study.series):
        started = time.monotonic()
        counts[read_outcome(series)] += 1
        slowest_s = max(slowest_s, time.monotonic() - started)
    counts["report"] += sum(len(study.reports) for study in found.studies)

    assert FILES * 0.99 <= sum(counts.values()) <= FILES  # two may still share a study that damage made
    assert set(counts) <= {"read", "listed", "report", *CODES}
    assert counts["internal.error"] == 0
    assert counts["read"] < FILES * 0.6  # damage is noticed more often than not
    assert discovery_s < 60
    assert slowest_s < SECONDS_A_FILE
    if os.environ.get("MEDMM_SHOW_COUNTS"):
        pytest.fail(f"{dict(counts)}, discovery {discovery_s:.1f} s, slowest read {slowest_s:.2f} s")
