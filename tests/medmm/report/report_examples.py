"""A small explained case with every part filled in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from medmm.results import (
    CandidateShare,
    ClassLabel,
    ConceptAttribution,
    Diagnosis,
    EvidencePath,
    Explanation,
    ExplanationCheck,
    FieldAttribution,
    MentionEvidence,
    ModalityShare,
    ModelIdentity,
    OutOfDistribution,
    PathHop,
    RankingShare,
    Region,
    SimilarCase,
    TaskExplanation,
    TaskResult,
    VolumeAttribution,
    WordAttribution,
)
from medmm.types import Case, Note, Record, Report, Section, Volume

REPORT = "FINDINGS: Hyperintense xylophone mass in the right lobe. No midline shift."
AFFINE = np.array([[1.0, 0, 0, -20], [0, 1.0, 0, -16], [0, 0, 4.0, -10], [0, 0, 0, 1]])
SHAPE = (40, 32, 6)
# The lesion lies at the patient's right (high i) and front (high j).
LESION = (slice(28, 34), slice(20, 26), slice(3, 5))


def make_explanation(write: Callable[[str], str] = lambda text: text, **changes: Any) -> Explanation:
    """The case; `write` is put around every text that comes from outside, `changes` replace fields of the diagnosis."""
    case = _case(write)
    diagnosis = Diagnosis(
        case_id="case-1",
        tasks={"side": _side(write), "grade": _grade(write)},
        regions={"tumour": _region(write)},
        present={"volume": True, "text": True, "record": True, "graph": True},
        out_of_distribution=OutOfDistribution(score=1.25, threshold=2.5, is_flagged=False),
        model=ModelIdentity(
            name=write("toy"),
            version="1",
            weights_sha256="a" * 64,
            graph_hash="b" * 64,
            device=write("cpu"),
        ),
        notes=(Note("image.lossy", write("Pixels were compressed with loss.")),),
    )
    return Explanation(
        case=case,
        diagnosis=replace(diagnosis, **changes),
        tasks={"side": _why("side", "right", write), "grade": replace(_why("grade", "low", write), paths=())},
        mentions=_mentions(write),
        similar=(SimilarCase(case_id=write("train-7"), similarity=0.91, labels={write("grade"): write("low")}),),
        notes=(Note("explain.check", write("One test did not pass.")),),
        model_card={write("Data"): write("12 phantoms")},
    )


def _case(write: Callable[[str], str]) -> Case:
    noise = np.random.default_rng(0).random((2, *SHAPE), dtype=np.float32)
    volumes = {}
    for number, role in enumerate(("t1", "flair")):
        voxels = noise[number] * 100
        voxels[LESION] += 200
        volumes[role] = Volume(voxels=voxels[None], affine_ras=AFFINE, modality=write("MR"))
    return Case(
        case_id="case-1",
        volumes=volumes,
        report=Report(text=write(REPORT), sections=(Section("findings", 0, len(REPORT)),)),
        record=Record(values={"age": 61.0}),
        input_hashes={"t1": "c" * 64, "flair": "d" * 64},
    )


def _side(write: Callable[[str], str]) -> TaskResult:
    return TaskResult(
        task="side",
        title=write("Side"),
        kind="exclusive",
        classes=(ClassLabel("left", write("Left side")), ClassLabel("right", write("Right side"), write("X:1"))),
        probabilities=np.array([0.03, 0.97]),
        prediction="right",
        prediction_set=("right",),
        coverage=0.9,
    )


def _grade(write: Callable[[str], str]) -> TaskResult:
    return TaskResult(
        task="grade",
        title=write("Grade"),
        kind="ordinal",
        classes=(ClassLabel("low", write("Low grade"), write("X:2")), ClassLabel("high", write("High grade"))),
        probabilities=np.array([0.52, 0.48]),
        prediction="low",
        prediction_set=("low", "high"),
        coverage=0.9,
        abstained=True,
        abstain_reason=write("Both are nearly equally probable."),
    )


def _region(write: Callable[[str], str]) -> Region:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[LESION] = 1
    return Region(
        name="tumour", title=write("Tumour"), role="flair", mask=mask, affine_ras=AFFINE, peak_probability=0.96
    )


def _why(task: str, target: str, write: Callable[[str], str]) -> TaskExplanation:
    values = np.zeros(SHAPE, dtype=np.float32)
    values[LESION] = 0.5
    values[30, 22, 3] = 1.0
    start = REPORT.index("xylophone")
    hop = PathHop(
        subject=write("X:9"),
        subject_name=write("Mass"),
        predicate=write("found_in"),
        object=write("X:1"),
        object_name=write("Right side"),
        source=write("toy-source"),
        source_version=write("2024"),
        trust=0.4,
    )
    return TaskExplanation(
        task=task,
        target=target,
        volumes=tuple(
            VolumeAttribution(
                role=role, task=task, target=target, method=write("grad-cam"), values=values * size, affine_ras=AFFINE
            )
            for role, size in (("t1", 0.6), ("flair", 1.0))
        ),
        words=(
            WordAttribution(start=start, end=start + 9, text="xylophone", value=0.8, section="findings"),
            WordAttribution(start=0, end=8, text="FINDINGS", value=-0.2, section=write("MRS SMITH")),
        ),
        fields=(FieldAttribution(name=write("age"), value=write("61"), attribution=0.02),),
        concepts=(
            ConceptAttribution(
                concept=write("X:9"), name=write("Mass"), kind=write("finding"), origin=write("report"), value=0.1
            ),
        ),
        paths=(EvidencePath(hops=(hop,), score=0.3, origin=write("report")),),
        modalities=(
            ModalityShare(modality="volume", is_present=True, share=0.42),
            ModalityShare(modality="text", is_present=True, share=-0.05),
        ),
        baseline_probability=0.6,
        ranking=RankingShare(
            task="disease",
            title=write("Disease"),
            attribution=0.04,
            candidates=(CandidateShare(name=write("glioma"), title=write("Glioma"), share=0.75),),
        ),
        checks=(
            ExplanationCheck(
                name=write("deletion"), value=0.7, reference=0.4, is_passed=True, sentence=write("Deletion works.")
            ),
            ExplanationCheck(
                name=write("randomisation"),
                value=float("nan"),
                reference=0.5,
                is_passed=False,
                sentence=write("The map did not change."),
            ),
        ),
    )


def _mentions(write: Callable[[str], str]) -> tuple[MentionEvidence, ...]:
    return tuple(
        MentionEvidence(
            start=10,
            end=22,
            text="xylophone",
            concept=write("X:9"),
            name=write(name),
            kind=write("finding"),
            status=status,
            experiencer="patient",
            temporality="current",
            score=0.9,
        )
        for name, status in (("Mass", "present"), ("Midline shift", "absent"))
    )
