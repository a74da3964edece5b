"""pydicom's own test files, all of them: nothing crashes, every refusal has a code and a sentence.

The table of outcomes is `tests/golden/dicom_files.tsv`; set MEDMM_REWRITE_GOLDEN=1 to write it anew, then read it.
Codecs differ between versions in where they give up, so the table holds codes and shapes, not messages.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

from medmm.dicom import discover
from medmm.dicom.types import Series
from medmm.dicom.volume import read_volume
from medmm.errors import CODES, InputError

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "dicom_files.tsv"


def outcome(series: Series) -> str:
    """One volume in a few words."""
    try:
        volume = read_volume(series)
    except InputError as error:
        assert error.code in CODES
        assert len(str(error)) > 20
        return error.code
    assert np.isfinite(volume.voxels).all()
    codes = ",".join(sorted({note.code for note in volume.notes}))
    return f"{'x'.join(str(size) for size in volume.shape)} {volume.unit} [{codes}]"


def rows_of(root: Path) -> list[str]:
    """A line a file: what discovery and reading make of it, each file by itself."""
    rows = []
    for path in sorted(one for one in root.rglob("*") if one.is_file() and one.suffix not in {".py", ".pyc"}):
        try:
            found = discover(path) if path.name != "DICOMDIR" else discover(path.parent)
        except InputError as error:
            rows.append(f"{path.relative_to(root)}\t{error.code}: {str(error).split(' (')[0]}")
            continue
        if path.name == "DICOMDIR":
            rows.append(f"{path.relative_to(root)}\tdirectory of {sum(len(s.series) for s in found.studies)} series")
            continue
        counts = Counter(outcome(one) for study in found.studies for one in study.series)
        words = [f"report ({len(study.reports)})" for study in found.studies if study.reports]
        words += [f"{number} x {what}" for what, number in sorted(counts.items())]
        words += [f"{skip.code or 'skip'}: {skip.reason.split(' (')[0]}" for skip in found.skipped]
        rows.append(f"{path.relative_to(root)}\t{'; '.join(words)}")
    return rows


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    roots = {"pydicom": Path(pydicom.data.__file__).parent / "test_files"}
    extra = pytest.importorskip("data_store", reason="the pydicom-data wheel is not installed")
    roots["pydicom-data"] = Path(extra.__file__).parent / "data"
    return roots


def test_every_file_of_pydicom_has_its_known_outcome(folders: dict[str, Path]) -> None:
    lines = [f"{name}/{row}" for name, root in folders.items() for row in rows_of(root)]
    text = "\n".join(lines) + "\n"
    if os.environ.get("MEDMM_REWRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")

    assert GOLDEN.read_text(encoding="utf-8") == text
