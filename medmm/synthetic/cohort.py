"""A phantom cohort on disk: what a user would hand to `medmm diagnose`, and the truth beside it."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmm.synthetic.anatomy import Phantom, build_phantom, render
from medmm.synthetic.dicom import study_uid, write_series, write_sr
from medmm.synthetic.plan import ROLES, PlantedCase, case_rng, plan_case
from medmm.synthetic.words import as_text, write_report

TRUTH_COLUMNS = (
    "patient_id", "study_uid", "diagnosis", "appearance", "side", "lobe", "x_mm", "y_mm", "z_mm", "volume_ml",
    "age_years", "sex", "roles", "report", "affirmed", "denied", "mask",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Where the parts of a written cohort lie. Only `studies`, `reports` and `records` are input to a diagnosis.

    `truth` is a table with a row per patient; its `mask` column names NIfTI files relative to the table's folder.
    """

    studies: Path
    reports: Path
    records: Path
    truth: Path
    cases: tuple[PlantedCase, ...]


def write_cohort(folder: str | Path, n_cases: int = 40, seed: int = 0) -> Cohort:
    """Write `n_cases` phantom patients as DICOM studies, reports and records, with their truth apart from the input.

    Layout under `folder`: `studies/<patient>/<series>/*.dcm` (some with an SR beside the series), `reports/*.txt` named
    by patient id or by study UID, `records.csv`, and `truth/truth.csv` with `truth/masks/<patient>.nii.gz`.

    Args:
        folder: Created if needed; files of an earlier cohort of the same size are overwritten.
        n_cases: Number of patients; patient `k` is the same in a cohort of any size.
        seed: The same seed gives the same bytes.
    Returns:
        The paths and what was planted.
    Raises:
        ValueError: If `n_cases` is below 1.
    """
    if n_cases < 1:
        raise ValueError(f"Expected at least 1 case (got {n_cases}).")
    root = Path(folder)
    cohort = Cohort(
        studies=root / "studies",
        reports=root / "reports",
        records=root / "records.csv",
        truth=root / "truth" / "truth.csv",
        cases=tuple(plan_case(index, seed) for index in range(n_cases)),
    )
    for path in (cohort.studies, cohort.reports, cohort.truth.parent / "masks"):
        path.mkdir(parents=True, exist_ok=True)
    rows = [_write_case(cohort, case, seed) for case in cohort.cases]
    _write_table(cohort.truth, TRUTH_COLUMNS, rows)
    _write_table(cohort.records, ("patient_id", "age_years", "sex"), [_record(case) for case in cohort.cases])
    return cohort


def _write_case(cohort: Cohort, case: PlantedCase, seed: int) -> dict[str, object]:
    phantom = build_phantom(case, case_rng(case.index, seed, 1))
    study = cohort.studies / case.patient_id
    for role in case.roles:
        stored = render(phantom, role, case_rng(case.index, seed, 2, ROLES.index(role)))
        write_series(study / f"series_{role}", case, seed, role, stored, phantom.affine_ras)
    sections = write_report(case, case_rng(case.index, seed, 3))
    if case.report_form == "sr":
        write_sr(study / "report" / "SR0001.dcm", case, seed, sections)
    elif case.report_form != "none":
        name = case.patient_id if case.report_form == "patient_text" else study_uid(case, seed)
        (cohort.reports / f"{name}.txt").write_text(as_text(sections), encoding="utf-8")
    mask = Path("masks") / f"{case.patient_id}.nii.gz"
    _write_mask(cohort.truth.parent / mask, phantom)
    return _truth(case, phantom, seed) | {"mask": mask.as_posix()}


def _truth(case: PlantedCase, phantom: Phantom, seed: int) -> dict[str, object]:
    x, y, z = phantom.positions_ras_mm[phantom.lesion_mask].mean(axis=0)
    voxel_ml = abs(np.linalg.det(phantom.affine_ras[:3, :3])) / 1000
    return {
        "patient_id": case.patient_id,
        "study_uid": study_uid(case, seed),
        "diagnosis": case.disease.name,
        "appearance": case.disease.appearance,
        "side": case.side,
        "lobe": case.lobe,
        "x_mm": round(float(x), 2),
        "y_mm": round(float(y), 2),
        "z_mm": round(float(z), 2),
        "volume_ml": round(float(phantom.lesion_mask.sum() * voxel_ml), 3),
        "age_years": case.age_years,
        "sex": case.sex,
        "roles": ";".join(case.roles),
        "report": case.report_form,
        "affirmed": ";".join(case.affirmed) if case.report_form != "none" else "",
        "denied": ";".join(case.denied) if case.report_form != "none" else "",
    }


def _record(case: PlantedCase) -> dict[str, object]:
    return {
        "patient_id": case.patient_id,
        "age_years": case.age_years if case.record_has_age else "",
        "sex": case.sex,
    }


def _write_mask(path: Path, phantom: Phantom) -> None:
    """NIfTI uint8 with voxel axes in RAS+, the orientation in which `medmm.read_volume` returns the series."""
    import nibabel

    mask = phantom.lesion_mask[::-1, ::-1].astype(np.uint8)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = np.array(mask.shape[:2]) - 1
    nibabel.save(nibabel.Nifti1Image(mask, phantom.affine_ras @ flip), path)


def _write_table(path: Path, columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
