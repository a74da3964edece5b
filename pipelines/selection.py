"""Which unlabelled cases are worth labelling next: those the model is unsure of, and no two alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medmm.diagnose import Diagnoser
from medmm.inputs import collate
from medmm.types import Case
from pipelines.engine import Refused, attempt
from pipelines.events import CaseDone, Found, Listener, ignore
from pipelines.manifest import ManifestRow

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A case worth labelling. `uncertainty` is 0 to 1; `distance` is to the nearest case chosen before."""

    case: str
    rank: int
    uncertainty: float
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """N cases as the model sees them: `embeddings` (N, F), `uncertainty` (N,), and which have a label already."""

    cases: tuple[str, ...]
    embeddings: np.ndarray
    uncertainty: np.ndarray
    is_labelled: np.ndarray


def rank_cases(pool: Pool, count: int) -> list[Choice]:
    """Return up to `count` unlabelled cases, the one most worth labelling first.

    Greedy: the next case has the largest uncertainty x distance to the nearest case that is labelled or chosen already,
    distances over standardised embeddings: the farthest-first choice of core sets (Sener and Savarese, ICLR 2018)
    weighed by uncertainty. Without labels it starts from the most uncertain case.
    """
    points = _standardised(pool.embeddings)
    nearest = np.full(len(points), np.inf)
    for labelled in np.flatnonzero(pool.is_labelled):
        nearest = np.minimum(nearest, np.linalg.norm(points - points[labelled], axis=1))
    is_open = ~pool.is_labelled.astype(bool)
    choices: list[Choice] = []
    while is_open.any() and len(choices) < count:
        reach = np.where(np.isfinite(nearest), nearest, 1.0)
        worth = np.where(is_open, (pool.uncertainty + _TINY) * (reach + _TINY), -np.inf)
        best = int(worth.argmax())
        choices.append(
            Choice(
                case=pool.cases[best],
                rank=len(choices) + 1,
                uncertainty=float(pool.uncertainty[best]),
                distance=float(reach[best]),
            )
        )
        is_open[best] = False
        nearest = np.minimum(nearest, np.linalg.norm(points - points[best], axis=1))
    return choices


def uncertainty_of(probabilities: Sequence[np.ndarray]) -> float:
    """Return the mean over tasks of the entropy of their probabilities, each against that of not knowing at all."""
    shares = [-(p * np.log(np.clip(p, _TINY, 1))).sum() / np.log(len(p)) for p in probabilities]
    return float(np.mean(shares))


def look_at_pool(
    diagnoser: Diagnoser, rows: Sequence[ManifestRow], tasks: Sequence[str], listener: Listener = ignore
) -> Pool:
    """Return the cases as the model sees them; those that cannot be read are told and left out.

    A case is labelled when the manifest has its label of every one of the tasks.
    """
    names, embeddings, doubts, labelled = [], [], [], []
    listener(Found(cases=len(rows), done_before=0))
    for number, row in enumerate(rows, 1):
        seen = _look(diagnoser, row, tasks)
        if isinstance(seen, Refused):
            listener(CaseDone(case_id=row.case, status="refused", done=number, reason=seen.reason, code=seen.code))
            continue
        names.append(row.case)
        embeddings.append(seen.embedding)
        doubts.append(seen.uncertainty)
        labelled.append(all(row.labels.get(task) for task in tasks))
        listener(CaseDone(case_id=row.case, status="ok", done=number))
    return Pool(
        cases=tuple(names),
        embeddings=np.array(embeddings).reshape(len(names), -1),
        uncertainty=np.array(doubts),
        is_labelled=np.array(labelled, dtype=bool),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    embedding: np.ndarray
    uncertainty: float


def _look(diagnoser: Diagnoser, row: ManifestRow, tasks: Sequence[str]) -> _Seen | Refused:
    case = attempt("read", row.read)
    return case if isinstance(case, Refused) else attempt("diagnose", lambda: _seen(diagnoser, case, tasks))


@torch.no_grad()
def _seen(diagnoser: Diagnoser, case: Case, tasks: Sequence[str]) -> _Seen:
    diagnosis = diagnoser.diagnose(case)
    output = diagnoser.model(collate([diagnoser.view(case).features], diagnoser.reader))
    parts = [] if output.fused is None else [output.fused.case[0].double().cpu().numpy()]
    parts += [diagnosis.tasks[task].probabilities for task in tasks]
    return _Seen(np.concatenate(parts), uncertainty_of([diagnosis.tasks[task].probabilities for task in tasks]))


def _standardised(embeddings: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 a column, scaled so that distances do not grow with the number of columns."""
    deviation = embeddings.std(axis=0)
    columns = embeddings[:, deviation > _TINY]
    if not columns.size:
        return np.zeros((len(embeddings), 1))
    standard: np.ndarray = (columns - columns.mean(axis=0)) / columns.std(axis=0) / np.sqrt(columns.shape[1])
    return standard
