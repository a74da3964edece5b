"""A small real model for batch tests: rules on pixels and words, no weights. It stands only where `Diagnoser` does.

It calls the FLAIR hyperintensity by a threshold and answers by counting words, so results depend on all of the input.
"""

from typing import Literal

import numpy as np

from medmm.diagnose import ModelSpec
from medmm.errors import InputError
from medmm.results import (
    ClassLabel,
    Diagnosis,
    Explanation,
    ModelIdentity,
    Region,
    TaskExplanation,
    TaskResult,
    VolumeAttribution,
)
from medmm.types import Case

CLASSES = ("glioblastoma", "meningioma", "multiple_sclerosis")
WORDS = (("ring", "diffusion"), ("dural", "homogeneous"), ("plaques", "ovoid"))


class RuleModel:
    """Diagnoses by rules. `fail_on` names patients' ages on which `diagnose` or `explain` breaks in some way."""

    device = "cpu"

    def __init__(self, *, crash_age: float | None = None, explain_fails: bool = False, version: str = "1") -> None:
        self.crash_age, self.explain_fails = crash_age, explain_fails
        self.spec = ModelSpec(
            name="rules",
            version=version,
            modalities=("volume", "text", "record"),
            roles=("t1", "flair", "t1ce"),
            is_volume_required=True,
            record_fields=("age_years", "sex"),
            weights_sha256="0" * 64,
            graph_hash="1" * 64,
        )

    def diagnose(self, case: Case) -> Diagnosis:
        age = case.record.values.get("age_years") if case.record is not None else None
        if age is not None and age == self.crash_age:
            raise ZeroDivisionError("PHANTOM-SECRET")
        if "flair" not in case.volumes:
            raise InputError("Expected a FLAIR series.", code="modality.missing")
        text = case.report.text.lower() if case.report is not None else ""
        counts = np.array([1.0 + sum(text.count(word) for word in words) for words in WORDS])
        probabilities = counts / counts.sum()
        best = CLASSES[int(probabilities.argmax())]
        flair = case.volumes["flair"]
        mask = (flair.voxels[0] > np.quantile(flair.voxels[0], 0.99)).astype(np.uint8)
        region = Region(
            name="lesion", title="Lesion", role="flair", mask=mask, affine_ras=flair.affine_ras, peak_probability=0.9
        )
        result = TaskResult(
            task="diagnosis",
            title="Diagnosis",
            kind="exclusive",
            classes=tuple(ClassLabel(name, name.replace("_", " ")) for name in CLASSES),
            probabilities=probabilities,
            prediction=best,
            prediction_set=(best,),
            coverage=0.9,
        )
        identity = ModelIdentity(
            name="rules", version=self.spec.version, weights_sha256="0" * 64, graph_hash="1" * 64, device="cpu"
        )
        return Diagnosis(
            case_id=case.case_id,
            tasks={"diagnosis": result},
            regions={"lesion": region},
            present={"volume": True, "text": case.report is not None, "record": case.record is not None},
            model=identity,
        )

    def explain(self, case: Case, diagnosis: Diagnosis, level: Literal["fast", "full"] = "fast") -> Explanation:
        if self.explain_fails:
            raise RuntimeError("no gradient")
        flair = case.volumes["flair"]
        values = (flair.voxels[0] / flair.voxels.max()).astype(np.float32)
        heatmap = VolumeAttribution(
            role="flair",
            task="diagnosis",
            target=diagnosis.tasks["diagnosis"].prediction,
            method="intensity",
            values=values,
            affine_ras=flair.affine_ras,
        )
        why = TaskExplanation(task="diagnosis", target=diagnosis.tasks["diagnosis"].prediction, volumes=(heatmap,))
        return Explanation(case=case, diagnosis=diagnosis, tasks={"diagnosis": why})
