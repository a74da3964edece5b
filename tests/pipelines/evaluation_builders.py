"""Phantoms on disk as a research data set has them: NIfTI series, masks, reports, and a manifest."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import tiny_models as tiny

from pipelines.evaluation.run import Evaluation

COLUMNS = (
    "case", "patient", "volumes", "report_text", "split", "mask", "record.age_years", "record.sex", "record.site",
    "label.kind", "label.grade", "label.side",
)  # fmt: skip
N_CASES = 18
REPORTS = {"glioblastoma": "Ring enhancement.", "meningioma": "Dural tail.", "other": "Nothing of note."}


@dataclass(frozen=True)
class Evaluated:
    """The folder of the phantoms with manifest and models, and what came out."""

    folder: Path
    manifest: Path
    model: Path
    other: Path
    result: Evaluation

    @property
    def out(self) -> Path:
        return self.result.output


def phantom_rows(folder: Path, n: int, *, n_of_a_patient: int = 1) -> list[dict[str, str]]:
    """Write `n` phantoms under `folder` and return their manifest rows; the kind is in the report."""
    rows = []
    for index in range(n):
        phantom = tiny.build_phantom(index, is_left=index % 2 == 0)
        paths = []
        for role, volume in phantom.volumes.items():
            nibabel.save(nibabel.Nifti1Image(volume.voxels[0], volume.affine_ras), folder / f"{index}_{role}.nii.gz")
            paths.append(f"{role}={index}_{role}.nii.gz")
        affine = phantom.volumes["flair"].affine_ras
        nibabel.save(nibabel.Nifti1Image(phantom.mask, affine), folder / f"{index}_mask.nii.gz")
        kind = ("glioblastoma", "meningioma", "other")[index % 3]
        values = (
            f"case-{index}", f"Jane Doe {index // n_of_a_patient}", ";".join(paths), REPORTS[kind], "test",
            f"{index}_mask.nii.gz", str(30 + 2 * index), "FM"[index % 2], "AB"[index % 4 // 2],
            kind, ("low", "mid", "high")[index % 3], ("left", "right")[index % 2],
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def write_manifest(folder: Path, rows: list[Mapping[str, str]], name: str = "cases.csv") -> Path:
    """Write a manifest of these rows."""
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
