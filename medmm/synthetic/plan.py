"""What is planted in a phantom patient: disease, place, report words, record. No voxels and no files here.

A disease shows itself in three ways that a model has to put together: how the lesion looks and takes up contrast, which
findings the report affirms, and the patient's age. Findings are taken from the imaging literature's common descriptions
and exist as concepts in the default knowledge graph, where they lead to the disease; the disease itself is never named.
Every report also *denies* findings of the other diseases, so that counting words without negation does not work. The
side is in the image only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Appearance = Literal["ring", "solid", "plaques"]
Side = Literal["left", "right"]
ReportForm = Literal["patient_text", "study_text", "sr", "none"]

ROLES = ("t1", "flair", "t1ce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disease:
    """One possible answer and how it shows: `findings` maps a planted phrase to the sentence that affirms it.

    `concept` is the disease in the default knowledge graph.
    """

    name: str
    title: str
    concept: str
    appearance: Appearance
    findings: Mapping[str, str]
    age_mean_years: float
    age_spread_years: float
    share_female: float


DISEASES: tuple[Disease, ...] = (
    Disease(
        name="glioblastoma",
        title="Glioblastoma",
        concept="ORPHA:360",
        appearance="ring",
        findings={
            "ring enhancement": "After contrast the lesion shows irregular ring enhancement.",
            "elevated Choline/NAA ratio": "Spectroscopy shows an elevated Choline/NAA ratio.",
            "lipid-lactate peak": "There is a lipid-lactate peak in the centre.",
            "increased rCBV": "Perfusion imaging shows increased rCBV.",
        },
        age_mean_years=64,
        age_spread_years=8,
        share_female=0.4,
    ),
    Disease(
        name="meningioma",
        title="Meningioma",
        concept="ORPHA:2495",
        appearance="solid",
        findings={
            "dural tail": "There is a dural tail along the adjacent convexity.",
            "homogeneous enhancement": "The lesion shows homogeneous enhancement.",
            "broad dural base": "It sits on a broad dural base.",
            "hyperostosis": "There is hyperostosis of the overlying calvaria.",
        },
        age_mean_years=58,
        age_spread_years=9,
        share_female=0.7,
    ),
    Disease(
        name="multiple_sclerosis",
        title="Multiple sclerosis",
        concept="RSD:d/multiple_sclerosis",
        appearance="plaques",
        findings={
            "central vein sign": "Several lesions show a central vein sign.",
            "plaques": "There are plaques at right angles to the lateral ventricle.",
            "spinal cord lesions": "Spinal cord lesions are visible at the upper cervical level.",
            "hyperintense ovoid lesions": "There are hyperintense ovoid lesions on FLAIR.",
        },
        age_mean_years=33,
        age_spread_years=7,
        share_female=0.7,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedCase:
    """The truth of one phantom patient. Positions and radii are RAS millimetres around the head's centre."""

    index: int
    patient_id: str
    disease: Disease
    side: Side
    lobe: str
    centre_ras_mm: tuple[float, float, float]
    radius_mm: float
    age_years: int
    sex: Literal["F", "M"]
    record_has_age: bool
    roles: tuple[str, ...]
    report_form: ReportForm
    affirmed: tuple[str, ...]
    denied: tuple[str, ...]


def plan_case(index: int, seed: int) -> PlantedCase:
    """The plan of patient `index` of the cohort `seed`; the same whatever the cohort's size.

    Diseases take turns, so that any cohort is balanced to within one case. Of each 12 patients one has no post-contrast
    series, one no pre-contrast T1, one no report, one no age in the record, and the report of one affirms nothing;
    which ones is drawn, so that what is missing says nothing about the disease.
    """
    rng = case_rng(index, seed)
    disease = DISEASES[index % len(DISEASES)]
    side: Side = "left" if rng.random() < 0.5 else "right"
    centre, radius = _place(disease.appearance, side, rng)
    quirk = _quirk(index, seed)
    missing_role = {4: "t1ce", 7: "t1"}.get(quirk)
    others = [other for other in DISEASES if other is not disease]
    return PlantedCase(
        index=index,
        patient_id=f"PHANTOM-{index:04d}",
        disease=disease,
        side=side,
        lobe=_lobe(centre),
        centre_ras_mm=centre,
        radius_mm=radius,
        age_years=int(np.clip(round(rng.normal(disease.age_mean_years, disease.age_spread_years)), 18, 89)),
        sex="F" if rng.random() < disease.share_female else "M",
        record_has_age=quirk != 10,
        roles=tuple(role for role in ROLES if role != missing_role),
        report_form=_report_form(index, quirk),
        affirmed=() if quirk == 2 else _choose(disease, 2, rng),
        denied=tuple(name for other in others for name in _choose(other, 1, rng)),
    )


def case_rng(index: int, seed: int, *stream: int) -> np.random.Generator:
    """A generator of its own for each patient (and each `stream` of it), so that none depends on the others."""
    return np.random.default_rng([seed, index, *stream])


def _quirk(index: int, seed: int) -> int:
    """A number in 0-11, each once in every block of 12 patients."""
    block, place = divmod(index, 12)
    order = np.random.default_rng([seed, block, 0, 12]).permutation(12)
    return int(order[place])


def _report_form(index: int, quirk: int) -> ReportForm:
    if quirk == 8:
        return "none"
    forms: tuple[ReportForm, ...] = ("patient_text", "study_text", "patient_text", "sr")
    return forms[index % len(forms)]


def _choose(disease: Disease, count: int, rng: np.random.Generator) -> tuple[str, ...]:
    names = sorted(disease.findings)
    return tuple(names[i] for i in sorted(rng.choice(len(names), size=count, replace=False)))


def _place(appearance: Appearance, side: Side, rng: np.random.Generator) -> tuple[tuple[float, float, float], float]:
    """Centre and radius in mm: a ring in deep white matter, solid at the convexity, plaques beside a ventricle."""
    sign = 1.0 if side == "right" else -1.0
    if appearance == "ring":
        x, y, z, radius = rng.uniform(30, 38), rng.uniform(-34, 34), rng.uniform(-10, 26), rng.uniform(12, 17)
    elif appearance == "solid":
        turn, height, radius = rng.uniform(-0.8, 0.8), rng.uniform(-8, 28), rng.uniform(11, 15)
        x, y, z = 57 * np.cos(turn), 70 * np.sin(turn), height
    else:
        x, y, z, radius = rng.uniform(24, 28), rng.uniform(-12, 16), rng.uniform(4, 16), rng.uniform(7, 9)
    return (round(sign * x, 2), round(float(y), 2), round(float(z), 2)), round(float(radius), 2)


def _lobe(centre_ras_mm: tuple[float, float, float]) -> str:
    _, y, z = centre_ras_mm
    if z < -2:
        return "temporal"
    return "frontal" if y > 2 else "parietal"
