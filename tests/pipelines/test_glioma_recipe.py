"""The development data as the recipe reads it: 78 patients, the right way round, folds that keep patients apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

import kg
from medmm.diagnose import load_model
from pipelines.recipes.glioma_mri.data import (
    N_FOLDS,
    PREPROCESSING,
    Patient,
    fold_of_patients,
    read_example,
    read_patients,
    read_volumes,
)
from pipelines.recipes.glioma_mri.spec import SIDE
from pipelines.recipes.glioma_mri.what import fit_everyone, read_case, targets_of
from pipelines.recipes.glioma_mri.where import EVERYONE
from pipelines.training.what import WhatSettings

pytestmark = pytest.mark.shared
# Labelled right and midline; both masks lie wholly on the left (the data's README says so).
MISLABELLED = {"TCGA-CS-6188", "TCGA-HT-8106"}


@pytest.fixture(scope="module")
def patients(shared_data: Path) -> list[Patient]:
    return read_patients(shared_data / "lgg")


def test_there_are_78_patients_each_once(patients: list[Patient]) -> None:
    assert len({patient.patient for patient in patients}) == len(patients) == 78


def test_a_sequence_that_the_source_lacks_is_absent(patients: list[Patient]) -> None:
    without = next(patient for patient in patients if not patient.has["t1ce"])

    volumes, _ = read_volumes(without)

    assert "t1ce" not in volumes
    assert set(volumes) == {role for role, is_there in without.has.items() if is_there}


def test_every_patient_has_flair(patients: list[Patient]) -> None:
    assert all(patient.has["flair"] for patient in patients)


def test_each_tumour_lies_on_the_labelled_side(patients: list[Patient]) -> None:
    wrong = set()
    for patient in patients:
        if patient.side is None:
            continue
        _, mask = read_volumes(patient)
        profile = mask.sum(axis=(1, 2)).astype(float)
        centre = float((profile * np.arange(len(profile))).sum() / profile.sum())
        lies = "right" if centre > (len(profile) - 1) / 2 else "left"  # the first axis grows to the patient's Right
        if lies != patient.side:
            wrong.add(patient.patient)

    assert wrong == MISLABELLED


def test_the_side_to_learn_is_that_of_the_mask(patients: list[Patient]) -> None:
    mislabelled = [patient for patient in patients if patient.patient in MISLABELLED]

    side = targets_of(mislabelled)["side"]

    assert side.tolist() == [SIDE.index("left")] * 2


def test_heads_are_broader_at_the_eyes_than_at_the_crown(patients: list[Patient]) -> None:
    volumes, _ = read_volumes(patients[0])
    head = volumes["flair"].voxels[0] > volumes["flair"].voxels.mean()

    area = head.sum(axis=(0, 1))

    assert area[: len(area) // 3].mean() > area[-3:].mean()  # the last axis grows to Superior


def test_the_mask_lies_on_what_the_network_sees(patients: list[Patient]) -> None:
    example = read_example(patients[0])

    assert example.regions.shape == (1, *example.array.shape[1:])
    assert example.array.shape[2:] == (PREPROCESSING.size_pixels,) * 2


def test_a_case_carries_no_label(patients: list[Patient]) -> None:
    case = read_case(patients[0])

    assert case.report is None
    assert case.record is not None
    assert set(case.record.values) <= {"age_years", "sex"}


def test_every_patient_is_tested_in_one_fold(patients: list[Patient]) -> None:
    fold = fold_of_patients(patients)

    assert fold.shape == (78,)
    assert set(fold) == set(range(N_FOLDS))
    assert max(Counter(fold.tolist()).values()) - min(Counter(fold.tolist()).values()) <= 5


def test_folds_hold_grades_alike(patients: list[Patient]) -> None:
    fold = fold_of_patients(patients)
    share = [np.mean([p.grade == "G3" for p, f in zip(patients, fold, strict=True) if f == n]) for n in range(N_FOLDS)]

    assert np.ptp(share) < 0.2


def test_folds_are_the_same_every_time(patients: list[Patient]) -> None:
    assert fold_of_patients(patients).tolist() == fold_of_patients(patients).tolist()


@pytest.mark.slow
def test_the_model_of_everyone_keeps_its_patients_by_number_and_label(
    shared_data: Path, patients: list[Patient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = patients[:6]
    monkeypatch.setattr("pipelines.recipes.glioma_mri.what.read_patients", lambda data: few)
    trunk = load_model("glioma-mri", device="cpu").model.trunk
    weights = {name: value.contiguous() for name, value in trunk.state_dict().items()}
    save_file(weights, tmp_path / f"trunk-{EVERYONE}.safetensors")

    fitted = fit_everyone(shared_data / "lgg", tmp_path, kg.load_default(), WhatSettings(epochs=1))

    assert fitted.training_cases is not None
    assert len(fitted.training_cases.embeddings) == 6
    assert [item["grade"] for item in fitted.training_cases.labels] == [patient.grade for patient in few]
