"""From the LGG tables and volumes to what `medmm train` reads: NIfTI files and a manifest."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from pipelines.recipes.glioma_mri.data import NOMINAL_SPACING_MM, Patient, read_patients, read_volumes
from pipelines.recipes.glioma_mri.what import side_of_mask

COLUMNS = (
    "case", "patient", "volumes", "mask", "record.age_years", "record.sex", "record.site", "label.side", "label.lobe",
    "label.grade", "label.histology", "label.coc2",
)  # fmt: skip


def prepare(data: Path, out: Path) -> Path:
    """Write each patient's sequences and mask as NIfTI under `out`, and `cases.csv`; return the manifest.

    A sequence that the source lacks is left out. The side is that of the mask, because two labels of the table
    contradict it. `coc2` is whether the patient is of cluster 2 of clusters (COC) of the TCGA LGG network 2015.
    """
    clusters = pd.read_csv(data / "clinical.csv", dtype={"patient_id": str}).set_index("patient_id")["COCCluster"]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for patient in read_patients(data):
            writer.writerow(_row(patient, clusters.get(patient.patient), out))
    return out / "cases.csv"


def _row(patient: Patient, cluster: float | None, out: Path) -> tuple[str, ...]:
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
        "" if cluster is None or np.isnan(cluster) else ("yes" if int(cluster) == 2 else "no"),
    )
