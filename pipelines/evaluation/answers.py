"""A model's answers to the labelled cases of a manifest, with everything that the tables of the evaluation need."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medmm.config import TaskSpec
from medmm.diagnose import Diagnoser
from medmm.errors import InputError, UsageError
from medmm.explain.cohort import MapScores
from medmm.results import Diagnosis, Region
from medmm.types import Case
from pipelines.engine import Refused, attempt
from pipelines.evaluation.acquisition import Facts, acquisition_facts
from pipelines.evaluation.explanations import map_scores
from pipelines.evaluation.gallery import thumbnail
from pipelines.evaluation.variants import Controls, Logits, answer_variants
from pipelines.events import CaseDone, Found, Listener, ignore
from pipelines.labels import parse_label, parse_labels
from pipelines.manifest import ManifestRow
from pipelines.statistics import dice, hausdorff_95


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionScore:
    """How well one region of one case was delineated. mm and ml hold as far as the voxel size does."""

    dice: float
    hausdorff_95_mm: float
    volume_ml: float
    reference_ml: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAnswer:
    """One case: what the manifest says of it, and what the model said. `variants` holds probabilities by control."""

    row: ManifestRow
    probabilities: Mapping[str, np.ndarray]
    sets: Mapping[str, tuple[str, ...]]
    abstained: Mapping[str, bool]
    regions: Mapping[str, RegionScore] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    hashes: frozenset[str] = frozenset()
    maps: tuple[MapScores, ...] = ()
    picture: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAnswers:
    """One task over the N cases whose right answer is known. `index` (N,) points into the cohort's cases.

    `truth` is (N,) class indices, or what `pipelines.labels` makes of labels of the task's kind.
    """

    task: TaskSpec
    index: np.ndarray
    patients: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray
    inside: np.ndarray
    abstained: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(label.name for label in self.task.classes)

    @property
    def has_one_class(self) -> bool:
        """Whether exactly one class is right, so that answers can be right or wrong."""
        return self.task.kind in ("exclusive", "ordinal", "ranking")

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All cases of an evaluation: those answered, and those refused with the reason."""

    tasks: tuple[TaskSpec, ...]
    cases: tuple[CaseAnswer, ...]
    refused: Mapping[str, Refused]

    def of_task(self, name: str) -> TaskAnswers:
        """The answers to one task, cases without a known label left out."""
        task = next(task for task in self.tasks if task.name == name)
        names = [label.name for label in task.classes]
        index = [row for row, case in enumerate(self.cases) if case.row.labels.get(name)]
        chosen = [self.cases[row] for row in index]
        shape = (len(index), len(names))
        return TaskAnswers(
            task=task,
            index=np.array(index, dtype=int),
            patients=np.array([case.row.patient for case in chosen], dtype=object),
            truth=parse_labels(task, [case.row.labels[name] for case in chosen]),
            probabilities=np.array([case.probabilities[name] for case in chosen], dtype=float).reshape(shape),
            inside=np.array([[label in case.sets[name] for label in names] for case in chosen], bool).reshape(shape),
            abstained=np.array([case.abstained[name] for case in chosen], dtype=bool),
        )

    def variant(self, name: str, answers: TaskAnswers) -> np.ndarray:
        """Probabilities (N, L) of a task's cases under a control; NaN where the control does not apply to a case."""
        nothing = np.full(len(answers.classes), np.nan)
        rows = [self.cases[row].variants.get(name, {}).get(answers.task.name, nothing) for row in answers.index]
        return np.array(rows).reshape(len(rows), len(answers.classes))

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the controls that any case was answered under, in the order of their first use."""
        return tuple(dict.fromkeys(name for case in self.cases for name in case.variants))


def check_labels(rows: Iterable[ManifestRow], tasks: Sequence[TaskSpec]) -> None:
    """Raise before any work where the manifest does not ask what the model answers.

    Raises:
        UsageError: `config.table` where a label is not one of a task's classes, or no task has any label.
    """
    rows = tuple(rows)
    for task in tasks:
        for text in {row.labels.get(task.name, "") for row in rows}:
            parse_label(task, text)
    asked = {name for row in rows for name, value in row.labels.items() if value}
    if not asked & {task.name for task in tasks} and not any(row.mask for row in rows):
        raise UsageError(
            "The manifest has no label of any task that the model answers, and no mask.",
            code="config.table",
            remedy=f"Add columns such as label.{tasks[0].name}.",
        )


def answer_cases(
    diagnoser: Diagnoser,
    rows: Sequence[ManifestRow],
    controls: Controls,
    listener: Listener = ignore,
    *,
    has_pictures: bool = True,
    has_explanations: bool = False,
    trained_on: Collection[str] = (),
) -> Answers:
    """Return the model's answers; a case that cannot be read or answered is recorded and never stops the rest.

    Args:
        diagnoser: The model.
        rows: The cases.
        controls: What every case is answered under besides.
        listener: Is told of every case.
        has_pictures: Keep a slice of each case.
        has_explanations: Test the heatmaps of each case, too.
        trained_on: SHA-256 of files or pixels of the model's training cases, which are refused.
    Raises:
        UsageError: As `check_labels`; `model.mismatch` for a case that the model was trained on.
    """
    tasks = diagnoser.model.labels.tasks
    check_labels(rows, tasks)
    listener(Found(cases=len(rows), done_before=0))
    found, refused = [], {}
    for number, row in enumerate(rows, 1):
        outcome = _answer(diagnoser, row, controls, has_pictures, has_explanations)
        if isinstance(outcome, Refused):
            refused[row.case] = outcome
            listener(
                CaseDone(case_id=row.case, status="refused", done=number, reason=outcome.reason, code=outcome.code)
            )
        elif outcome.hashes & set(trained_on):
            raise UsageError(
                f"The model was trained on the case in row {number} of those to evaluate.",
                code="model.mismatch",
                remedy="Evaluate on other cases (--split); --allow-training-cases if it is meant.",
            )
        else:
            found.append(outcome)
            listener(CaseDone(case_id=row.case, status="ok", done=number))
    return Answers(tasks=tasks, cases=tuple(found), refused=refused)


def _answer(
    diagnoser: Diagnoser, row: ManifestRow, controls: Controls, has_pictures: bool, has_explanations: bool
) -> CaseAnswer | Refused:
    case = attempt("read", row.read)
    if isinstance(case, Refused):
        return case

    def work() -> CaseAnswer:
        diagnosis = diagnoser.diagnose(case)
        return CaseAnswer(
            row=row,
            probabilities={name: result.probabilities for name, result in diagnosis.tasks.items()},
            sets={name: result.prediction_set for name, result in diagnosis.tasks.items()},
            abstained={name: result.abstained for name, result in diagnosis.tasks.items()},
            regions=_score_regions(diagnosis, row.mask),
            variants=_as_probabilities(answer_variants(diagnoser, case, controls), diagnoser),
            facts=acquisition_facts(case),
            hashes=pixel_hashes(case),
            maps=map_scores(diagnoser, case, _known_region(row)) if has_explanations else (),
            picture=thumbnail(case, diagnosis) if has_pictures else "",
        )

    return attempt("diagnose", work)


def _known_region(row: ManifestRow) -> np.ndarray | None:
    return None if row.mask is None else (read_mask(row.mask) > 0).astype(np.uint8)


def pixel_hashes(case: Case) -> frozenset[str]:
    """SHA-256 of a case's files and of its voxels: the same pixels in other files are the same case."""
    files = {digest for name, digest in case.input_hashes.items() if name not in ("report", "record")}
    return frozenset(files | {hashlib.sha256(volume.voxels.tobytes()).hexdigest() for volume in case.volumes.values()})


def _as_probabilities(variants: Mapping[str, Logits], diagnoser: Diagnoser) -> dict[str, dict[str, np.ndarray]]:
    import torch

    from medmm.heads import probabilities

    tasks = {task.name: task for task in diagnoser.model.labels.tasks}
    return {
        variant: {
            name: probabilities(torch.from_numpy(row)[None], tasks[name].kind, tasks[name].calibration.temperature)[0]
            .double()
            .numpy()
            for name, row in logits.items()
        }
        for variant, logits in variants.items()
    }


def _score_regions(diagnosis: Diagnosis, mask: Path | None) -> dict[str, RegionScore]:
    if mask is None or not diagnosis.regions:
        return {}
    truth = read_mask(mask)
    scores = {}
    for number, (name, region) in enumerate(diagnosis.regions.items(), 1):
        marked = truth > 0 if len(diagnosis.regions) == 1 else truth == number
        scores[name] = _score_region(region, marked)
    return scores


def read_mask(path: Path) -> np.ndarray:
    """Return a NIfTI mask (I, J, K) in RAS+, whole numbers.

    Raises:
        InputError: `io.unreadable` where it cannot be read.
    """
    import nibabel

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[arg-type]  # a NIfTI image
        return np.rint(np.asarray(image.dataobj)).astype(np.int16)  # type: ignore[attr-defined]  # a NIfTI image
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError):
        raise InputError("The mask of the case cannot be read as NIfTI.", code="io.unreadable") from None


def _score_region(region: Region, truth: np.ndarray) -> RegionScore:
    if truth.shape != region.mask.shape:
        raise InputError(
            f"Expected a mask on the grid of {region.role} {region.mask.shape} (got {truth.shape}).",
            code="model.mismatch",
            remedy="Give the mask on the voxel grid of that series.",
        )
    spacing_mm = tuple(float(x) for x in np.linalg.norm(region.affine_ras[:3, :3], axis=0))
    voxel_ml = abs(float(np.linalg.det(region.affine_ras[:3, :3]))) / 1000
    return RegionScore(
        dice=dice(region.mask > 0, truth),
        hausdorff_95_mm=hausdorff_95(region.mask > 0, truth, spacing_mm),
        volume_ml=region.volume_ml,
        reference_ml=float(truth.sum()) * voxel_ml,
    )
