"""From the LGG tables and volumes to what `medmm train` reads: NIfTI files and a manifest."""

import csv
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from pipelines.recipes.glioma_mri.data import (
    NOMINAL_SPACING_MM,
    Patient,
    fold_of_patients,
    read_patients,
    read_volumes,
)
from pipelines.recipes.glioma_mri.what import side_of_mask

COLUMNS = (
    "case", "patient", "volumes", "mask", "record.age_years", "record.sex", "record.site", "label.side", "label.lobe",
    "label.grade", "label.histology", "label.coc2",
)  # fmt: skip
TEST_FOLDS = (0, 1)


def prepare(data: Path, out: Path) -> Path:
    """Write each patient's sequences and mask as NIfTI under `out`, with manifests; return the first.

    `cases.csv` has no split, for cross-validation; in `cases_split.csv` two of five folds are the split `test`.

    A sequence that the source lacks is left out. The side is that of the mask, because two labels of the table
    contradict it.
    """
    out.mkdir(parents=True, exist_ok=True)
    patients = read_patients(data)
    rows = [_row(patient, out) for patient in patients]
    splits = ["test" if fold in TEST_FOLDS else "train" for fold in fold_of_patients(patients)]
    parted = [(*row, split) for row, split in zip(rows, splits, strict=True)]
    _write(out / "cases_split.csv", (*COLUMNS, "split"), parted)
    return _write(out / "cases.csv", COLUMNS, rows)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([columns, *rows])
    return path


def _row(patient: Patient, out: Path) -> tuple[str, ...]:
    volumes, mask = read_volumes(patient)
    affine, parts = np.diag([*NOMINAL_SPACING_MM, 1.0]), []
    for role, volume in volumes.items():
        name = f"{patient.patient}_{role}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(volume.voxels[0].astype(np.uint8), affine), out / name)
        parts.append(f"{role}={name}")
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), affine), out / f"{patient.patient}_mask.nii.gz")
    return (
        patient.patient,
        patient.patient,
        ";".join(parts),
        f"{patient.patient}_mask.nii.gz",
        "" if patient.age is None else f"{patient.age:g}",
        (patient.sex or "")[:1].upper(),
        patient.site,
        side_of_mask(patient),
        patient.lobe or "",
        patient.grade or "",
        patient.histology or "",
        patient.coc2 or "",
    )
