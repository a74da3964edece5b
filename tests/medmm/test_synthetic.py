"""Phantom cohorts: deterministic, honest about their truth, and never naming the answer."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

import kg
from medmm.synthetic import DISEASES, plan_case, write_cohort
from medmm.synthetic.cohort import Cohort
from medmm.synthetic.plan import Disease
from medmm.synthetic.words import DENIALS


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"), n_cases=12, seed=3)


def _truth(cohort: Cohort) -> list[dict[str, str]]:
    with cohort.truth.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _report_text(cohort: Cohort, row: dict[str, str]) -> str:
    if row["report"] == "sr":
        dataset = pydicom.dcmread(cohort.studies / row["patient_id"] / "report" / "SR0001.dcm")
        return " ".join(part.ContentSequence[0].TextValue for part in dataset.ContentSequence)
    stem = row["patient_id"] if row["report"] == "patient_text" else row["study_uid"]
    return (cohort.reports / f"{stem}.txt").read_text(encoding="utf-8")


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    write_cohort(tmp_path / "a", n_cases=2, seed=5)
    write_cohort(tmp_path / "b", n_cases=2, seed=5)

    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")


def test_another_seed_plants_other_cases() -> None:
    assert plan_case(0, seed=0).centre_ras_mm != plan_case(0, seed=1).centre_ras_mm


def test_a_cohort_needs_a_case(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 case"):
        write_cohort(tmp_path, n_cases=0)


def test_diseases_are_balanced_and_what_is_missing_is_spread() -> None:
    plans = [plan_case(index, seed=0) for index in range(120)]

    assert set(Counter(plan.disease.name for plan in plans).values()) == {40}
    without_contrast = {plan.disease.name for plan in plans if "t1ce" not in plan.roles}
    assert len(without_contrast) == len(DISEASES)


def test_the_lesion_lies_where_the_truth_says(cohort: Cohort) -> None:
    for row in _truth(cohort):
        image = nibabel.load(cohort.truth.parent / row["mask"])
        indices = np.argwhere(np.asarray(image.dataobj) > 0)
        centre = (indices @ image.affine[:3, :3].T + image.affine[:3, 3]).mean(axis=0)

        assert np.allclose(centre, [float(row[axis]) for axis in ("x_mm", "y_mm", "z_mm")], atol=0.02)
        assert (centre[0] > 0) == (row["side"] == "right")
        assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")


def test_the_lesion_is_brighter_than_its_mirror_image_on_flair(cohort: Cohort) -> None:
    for row in _truth(cohort):
        files = (cohort.studies / row["patient_id"] / "series_flair").iterdir()
        slices = sorted((pydicom.dcmread(path) for path in files), key=lambda item: float(item.SliceLocation))
        stored = np.stack([item.pixel_array.T for item in slices], axis=-1)[::-1, ::-1]
        mask = np.asarray(nibabel.load(cohort.truth.parent / row["mask"]).dataobj) > 0

        assert stored[mask].mean() > 1.2 * stored[mask[::-1]].mean()


def test_reports_affirm_and_deny_what_was_planted_and_never_name_a_disease(cohort: Cohort) -> None:
    rows = [row for row in _truth(cohort) if row["report"] != "none"]

    for row in rows:
        text = _report_text(cohort, row).lower()
        for phrase in filter(None, [*row["affirmed"].split(";"), *row["denied"].split(";")]):
            assert phrase.lower() in text
        for word in ("glioblastoma", "meningioma", "sclerosis", "left", "right ", "tumor", "demyelin"):
            assert word not in text.replace("right angles", "")


@pytest.mark.parametrize("disease", DISEASES, ids=lambda disease: disease.name)
def test_every_planted_finding_is_read_from_its_sentence_and_leads_to_its_disease(disease: Disease) -> None:
    graph = kg.load_default()

    for phrase, sentence in disease.findings.items():
        affirmed = [m for m in kg.link(sentence) if m.text.lower() == phrase.lower() and m.status == "present"]
        denied = [m for template in DENIALS for m in kg.link(template.format(finding=phrase))]

        assert len(affirmed) == 1, phrase
        assert kg.paths(graph, [affirmed[0].concept], disease.concept, max_hops=1), phrase
        assert [m.status for m in denied] == ["absent"] * len(DENIALS), phrase


def test_truth_stays_outside_the_input_folders(cohort: Cohort) -> None:
    inputs = [path for folder in (cohort.studies, cohort.reports) for path in folder.rglob("*") if path.is_file()]

    assert not [path.name for path in inputs if path.name.endswith((".csv", ".nii.gz"))]
    assert not [path for path in inputs if cohort.truth.parent in path.parents]
