"""Every series of the development data against its reference volume, and the folder that mixes everything.

The table of outcomes is `docs/dicom_references.md`; set MEDMM_REWRITE_GOLDEN=1 to write it anew, then read it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from medmm.dicom import discover
from medmm.dicom.volume import read_volume
from medmm.errors import InputError
from medmm.images import read_image
from medmm.types import Volume

pytestmark = pytest.mark.shared
TABLE = Path(__file__).resolve().parents[3] / "docs" / "dicom_references.md"
HEAD = """# Series with a reference volume

What `medmm` makes of every series of the development data, after both sides are brought to RAS: the largest difference
of a voxel as a share of the reference's range, and the largest distance of a corner. References come from dcm2niix
1.0.20260724 or from the header itself (sorted positions, true shear). Written by
`MEDMM_REWRITE_GOLDEN=1 python -m pytest tests/medmm/dicom/test_dicom_references.py`; the test holds the code to it.

Time points and echoes become volumes of their own (`split_key`), where dcm2niix writes a fourth dimension. A gantry
tilt stays in the affine as shear, where dcm2niix resamples by default; both agree in patient space. A missing slice is
refused unless `gaps="resample"`, where dcm2niix writes an even stack. Localizers and dose pages are listed, not read.

| series | quirk | volumes | voxels | corners mm | notes |
| --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Outcome:
    volumes: int
    voxels: float
    corners_mm: float
    notes: str


def corners(volume: Volume) -> np.ndarray:
    last = np.array(volume.shape) - 1
    index = np.array([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    return index @ volume.affine_ras[:3, :3].T + volume.affine_ras[:3, 3]


def read_folder(folder: Path) -> list[Volume | InputError]:
    results: list[Volume | InputError] = []
    for study in discover(folder).studies:
        for series in study.series:
            try:
                results.append(read_volume(series))
            except InputError as error:
                results.append(error)
    return results


def references(data: Path, entry: dict) -> list[Volume]:
    found = []
    for reference in entry["references"]:
        whole = read_image(data / reference["file"])
        found += [
            Volume(voxels=whole.voxels[n : n + 1], affine_ras=whole.affine_ras, modality="MR")
            for n in range(len(whole.voxels))
        ]
    return found


def compare(volumes: list[Volume], wanted: list[Volume]) -> tuple[float, float]:
    """Largest voxel and corner difference over the best pairing of volumes with references of the same shape."""
    left, worst_voxel, worst_corner = list(wanted), 0.0, 0.0
    for volume in volumes:
        pairs = []
        for n, other in enumerate(left):
            if other.shape == volume.shape:
                voxel = float(np.abs(other.voxels - volume.voxels).max() / max(np.ptp(other.voxels), 1e-9))
                pairs.append((voxel, float(np.abs(corners(other) - corners(volume)).max()), n))
        assert pairs, f"no reference of shape {volume.shape}"
        voxel, corner, n = min(pairs)
        del left[n]
        worst_voxel, worst_corner = max(worst_voxel, voxel), max(worst_corner, corner)
    return worst_voxel, worst_corner


def outcome_of(data: Path, entry: dict) -> Outcome:
    results = read_folder(data / entry["folder"])
    volumes = [result for result in results if isinstance(result, Volume)]
    codes = [result.code for result in results if isinstance(result, InputError)]
    notes = sorted({note.code for volume in volumes for note in volume.notes} | set(codes))
    if not volumes:
        return Outcome(0, 0.0, 0.0, ", ".join(notes) or "listed, not read")
    voxel, corner = compare(volumes, references(data, entry))
    return Outcome(len(volumes), voxel, corner, ", ".join(notes))


@pytest.fixture(scope="module")
def outcomes(shared_data: Path) -> dict[str, tuple[dict, Outcome]]:
    data = shared_data / "dicom"
    entries = json.loads((data / "index.json").read_text())
    return {entry["name"]: (entry, outcome_of(data, entry)) for entry in entries}


def test_every_series_equals_its_reference(outcomes: dict[str, tuple[dict, Outcome]]) -> None:
    for name, (entry, outcome) in outcomes.items():
        expected = sum((*reference["shape"], 1)[3] for reference in entry["references"])
        if name == "constructed/missing_slice":
            assert (outcome.volumes, outcome.notes) == (0, "series.gap")
            continue
        assert outcome.volumes == expected, name
        assert outcome.voxels <= 1e-6, name
        assert outcome.corners_mm <= 0.01, name
    assert len(outcomes) >= 27


def test_a_missing_slice_is_interpolated_on_the_true_positions(shared_data: Path) -> None:
    data = shared_data / "dicom"
    entry = next(
        one for one in json.loads((data / "index.json").read_text()) if one["name"] == "constructed/missing_slice"
    )
    measured = references(data, entry)[0].voxels[0]

    volume = read_volume(data / entry["folder"], gaps="resample")

    heights = [position[2] for position in entry["references"][0]["slice_positions_ras_mm"]]
    for n, height in enumerate(heights):
        k = round(height - volume.affine_ras[2, 3])
        np.testing.assert_array_equal(volume.voxels[0, ..., k], measured[..., n])
    assert volume.shape[2] == 40


def test_the_table_of_outcomes_is_the_one_in_the_documentation(outcomes: dict[str, tuple[dict, Outcome]]) -> None:
    rows = [
        f"| {name} | {entry['quirks']} | {outcome.volumes} | {outcome.voxels:.1g} | {outcome.corners_mm:.4f} "
        f"| {outcome.notes} |"
        for name, (entry, outcome) in outcomes.items()
    ]
    table = HEAD + "\n".join(rows) + "\n"
    if os.environ.get("MEDMM_REWRITE_GOLDEN"):
        TABLE.write_text(table, encoding="utf-8")

    assert TABLE.read_text(encoding="utf-8") == table


def test_the_folder_that_mixes_everything_comes_apart_by_uid(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "messy"
    manifest = json.loads((shared_data / "dicom" / "messy_manifest.json").read_text())
    expected: dict[str, set[Path]] = {}
    for row in manifest:
        expected.setdefault(row["what"].split(" (")[0], set()).add(folder / row["file"])

    found = discover(folder)

    by_files = {frozenset(series.files): series for study in found.studies for series in study.series}
    assert frozenset(expected["series 3"]) in by_files
    second = next(series for files, series in by_files.items() if expected["series 2"] & files)
    assert read_volume(second).shape == (35, 51, 32)
    first = next(series for files, series in by_files.items() if len(expected["series 1"] & files) > 30)
    with pytest.raises(InputError) as caught:
        read_volume(first)  # one of its files names another patient
    assert caught.value.code == "identity.conflict"
    skipped = {skip.path.relative_to(folder).as_posix(): skip.code for skip in found.skipped}
    assert skipped["A/B/truncated_pixels.dcm"] == skipped["A/B/truncated_header.dcm"] == "dicom.truncated"
    assert skipped["CT/scout"] == skipped["A/notes.dcm"] == skipped["A/empty.dcm"] == skipped["SR/rtdose.dcm"] == ""
    accounted = set(skipped) | {
        path.relative_to(folder).as_posix()
        for study in found.studies
        for series in study.series
        for path in series.files
    }
    accounted |= {report.path.relative_to(folder).as_posix() for study in found.studies for report in study.reports}
    dropped_copies = {"A/IM90001", "A/B/copy_of_7.dcm", "A/B/nopreamble", "A/IM00005", "A/IM00007"}
    missing = {row["file"] for row in manifest} - accounted
    assert len(missing) <= 3
    assert missing <= dropped_copies | {path.relative_to(folder).as_posix() for path in expected["series 2"]}
