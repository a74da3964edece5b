"""A small real model for batch tests: rules on pixels and words, no weights. It stands only where `Diagnoser` does.

It calls the brightest percent of FLAIR the lesion and answers by counting words, so results depend on all of the input.
Run as a script it is the command line `medmm` with this model in place of `load_model`; it loads no torch.
"""

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

import numpy as np

from medmm.errors import InputError
from medmm.explain.methods import ExplanationMethods
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
from medmm.types import Case, Titles

CLASSES = ("glioblastoma", "meningioma", "multiple_sclerosis")
WORDS = (("ring", "spectroscopy"), ("dural", "homogeneous"), ("plaques", "ovoid"))


@dataclass(frozen=True, kw_only=True)
class RuleSpec:
    """As `medmm.diagnose.ModelSpec`."""

    name: str = "rules"
    version: str = "1"
    modalities: tuple[str, ...] = ("volume", "text", "record")
    roles: tuple[str, ...] = ("t1", "flair", "t1ce")
    is_volume_required: bool = True
    record_fields: tuple[str, ...] = ("age_years", "sex")
    weights_sha256: str = "0" * 64
    graph_hash: str = "1" * 64
    answers: tuple[str, ...] = CLASSES
    titles: Titles = field(default_factory=dict)


class RuleModel:
    """Diagnoses by rules. `crash_age`: `diagnose` breaks on patients of that age. `babbles`: it breaks and its error
    tells the case. `seconds`: how long a case takes.
    """

    device = "cpu"

    def __init__(
        self,
        device: str = "cpu",
        *,
        crash_age: float | None = None,
        babbles: bool = False,
        explain_fails: bool = False,
        seconds: float = 0.0,
        spec: RuleSpec | None = None,
    ) -> None:
        self.crash_age, self.explain_fails, self.seconds = crash_age, explain_fails, seconds
        self.babbles = babbles
        self.spec = spec or RuleSpec()
        self.diagnosed: list[str] = []

    def size_of(self, case: Case) -> float:
        return 1.0

    def read_together(self, cases: Sequence[Case]) -> None:
        raise AssertionError("A case that fills a pass is never read together with others.")

    def diagnose(self, case: Case) -> Diagnosis:
        self.diagnosed.append(case.case_id)
        time.sleep(self.seconds)
        age = case.record.values.get("age_years") if case.record is not None else None
        if age is not None and age == self.crash_age:
            raise ZeroDivisionError("SECRET")
        if self.babbles:
            raise RuntimeError(f"{case.report} {case.record} {sys.argv}")
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
        return Diagnosis(
            case_id=case.case_id,
            tasks={"diagnosis": result},
            regions={"lesion": region},
            present={"volume": True, "text": case.report is not None, "record": case.record is not None},
            model=ModelIdentity(
                name=self.spec.name,
                version=self.spec.version,
                weights_sha256=self.spec.weights_sha256,
                graph_hash=self.spec.graph_hash,
                device=self.device,
            ),
        )

    def explain(
        self,
        case: Case,
        diagnosis: Diagnosis,
        level: Literal["fast", "full"] = "fast",
        methods: ExplanationMethods | None = None,
    ) -> Explanation:
        if self.explain_fails:
            raise RuntimeError("SECRET")
        flair, target = case.volumes["flair"], diagnosis.tasks["diagnosis"].prediction
        heatmap = VolumeAttribution(
            role="flair",
            task="diagnosis",
            target=target,
            method="intensity",
            values=(flair.voxels[0] / flair.voxels.max()).astype(np.float32),
            affine_ras=flair.affine_ras,
        )
        why = TaskExplanation(task="diagnosis", target=target, volumes=(heatmap,))
        return Explanation(case=case, diagnosis=diagnosis, tasks={"diagnosis": why})


def _main() -> None:
    """`medmm` with rules: the model's name is the number of seconds that each case takes, or a way to break."""

    def load_model(name: str, **options: object) -> RuleModel:
        if name in ("collapse", "babble"):
            warnings.warn(f"loading for {sys.argv}", stacklevel=1)
        if name == "collapse":
            raise RuntimeError(f"cannot load for {sys.argv}")
        return RuleModel(babbles=True) if name == "babble" else RuleModel(seconds=float(name))

    stand_in = ModuleType("medmm.diagnose")
    stand_in.load_model = load_model  # type: ignore[attr-defined]
    sys.modules["medmm.diagnose"] = stand_in
    from pipelines.cli import main

    main()


if __name__ == "__main__":
    _main()
