"""The LGG tables and volumes as medmm sees them: Volumes in RAS+, prepared arrays, folds by patient."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from medmm.encoders.volume import lesion_position
from medmm.preprocess import Preprocessing, prepare_volume
from medmm.types import Volume
from pipelines.training.where import WhereExample

ROLES = ("t1", "flair", "t1ce")
PREPROCESSING = Preprocessing(roles=ROLES, reference_order=("flair", "t1ce", "t1"))
N_FOLDS = 5
# Tissue assays of the TCGA LGG network 2015, each with its clusters by number; COCCluster is made from the others.
TISSUE_COLUMNS = ("RNASeqCluster", "MethylationCluster", "miRNACluster", "CNCluster", "RPPACluster", "OncosignCluster")
# The source gives no voxel size. 2 mm x 5 mm is nominal, as in common clinical protocols; no result depends on it.
NOMINAL_SPACING_MM = (2.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """One row of the clinical table with the place of its volume.

    `coc2` says "yes" or "no" to cluster 2 of clusters (COC) of the TCGA LGG network 2015. It and `tissue`, the clusters
    by column, come from the removed tissue: nobody knows them when the images are read.
    """

    patient: str
    site: str
    path: Path
    has: dict[str, bool]
    age: float | None
    sex: str | None
    side: str | None
    lobe: str | None
    grade: str | None
    histology: str | None
    coc2: str | None
    tissue: dict[str, str]


def read_patients(data: Path) -> list[Patient]:
    """Return the patients of `clinical.csv`, in its order; empty cells become None."""
    table = pd.read_csv(data / "clinical.csv", dtype={"patient_id": str})

    def text(value: str | float) -> str | None:
        return None if pd.isna(value) else str(value)

    return [
        Patient(
            patient=row["patient_id"],
            site=row["site_code"],
            path=data / row["file"],
            has={"t1": bool(row["has_pre"]), "flair": bool(row["has_flair"]), "t1ce": bool(row["has_post"])},
            age=None if pd.isna(row["age"]) else float(row["age"]),
            sex=text(row["sex"]),
            side=text(row["side"]),
            lobe=text(row["location"]),
            grade=text(row["grade"]),
            histology=text(row["histology"]),
            coc2=None if pd.isna(row["COCCluster"]) else "yes" if int(row["COCCluster"]) == 2 else "no",
            tissue={name: str(int(row[name])) for name in TISSUE_COLUMNS if not pd.isna(row[name])},
        )
        for _, row in table.iterrows()
    ]


def read_volumes(patient: Patient) -> tuple[dict[str, Volume], np.ndarray]:
    """Return the present sequences by role and the mask uint8 (I, J, K), both RAS+ with the nominal spacing."""
    with np.load(patient.path, allow_pickle=False) as arrays:
        image, mask = arrays["image"], arrays["mask"]
    affine = np.diag([*NOMINAL_SPACING_MM, 1.0])
    volumes = {
        role: Volume(voxels=_to_ras(image[channel])[None].astype(np.float32), affine_ras=affine, modality="MR")
        for channel, role in enumerate(ROLES)
        if patient.has[role]
    }
    return volumes, _to_ras(mask)


def read_example(patient: Patient) -> WhereExample:
    """Return the patient as the network sees it, with the tumour mask on the network's grid."""
    volumes, mask = read_volumes(patient)
    prepared = prepare_volume(volumes, PREPROCESSING)
    if prepared is None or prepared.grid.shape != mask.shape[::-1]:
        raise ValueError(f"Expected the mask of {patient.patient} on the network's grid (got {mask.shape}).")
    return WhereExample(
        case=patient.patient,
        array=prepared.array.astype(np.float16),
        present=prepared.present,
        regions=np.ascontiguousarray(mask.transpose(2, 1, 0))[None],
    )


def mask_position(example: WhereExample) -> Float[Tensor, "1 7"]:
    """Where the readers drew the lesion in the head, as `lesion_position` has it of what a trunk marks."""
    regions, array = torch.from_numpy(example.regions).float(), torch.from_numpy(example.array).float()
    return lesion_position(regions[None], array[None], torch.from_numpy(example.present)[None])


def fold_of_patients(patients: list[Patient]) -> np.ndarray:
    """Return the test fold (N,) of each patient, stratified by grade x histology, fixed by seed 0."""
    strata = [f"{patient.grade}/{patient.histology}" for patient in patients]
    folds = np.zeros(len(patients), dtype=int)
    splitter = StratifiedKFold(n_splits=N_FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():  # one patient without a grade is a stratum of its own
        warnings.filterwarnings("ignore", message="The least populated class in y has only 1 members")
        for fold, (_, test) in enumerate(splitter.split(np.zeros(len(patients)), strata)):
            folds[test] = fold
    return folds


def _to_ras(array: np.ndarray) -> np.ndarray:
    """The source runs (Superior, Posterior, Left); return (Right, Anterior, Superior)."""
    return np.ascontiguousarray(array[:, ::-1, ::-1].transpose(2, 1, 0))
