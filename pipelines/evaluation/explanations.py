"""Whether the heatmaps of a model can be believed, over all evaluated cases: `medmm.explain.cohort` with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medmm.diagnose import Diagnoser
from medmm.explain.cohort import BASELINES, MapScores, measure_maps
from medmm.types import Case
from pipelines.statistics import Estimate, bootstrap

METHODS = ("lesion", *BASELINES)  # what reports show, and what has to be beaten

_FIGURES: Mapping[str, Callable[[MapScores], float]] = {
    "shown": lambda score: float(score.has_map),
    "deletion_gain": lambda score: score.deletion_random - score.deletion,
    "insertion_gain": lambda score: score.insertion - score.insertion_random,
    "peak_in_mask": lambda score: score.points,
    "mass_in_mask": lambda score: score.mass,
    "like_shuffled_weights": lambda score: score.shuffled,
    "like_itself_with_noise": lambda score: score.repeated,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """One method's figures over the cases; `deletion_gain` and `insertion_gain` are against random order."""

    method: str
    figures: Mapping[str, Estimate]


def map_scores(diagnoser: Diagnoser, case: Case, mask: np.ndarray | None) -> tuple[MapScores, ...]:
    """Return the scores of a case's maps and of the baselines, for every task."""
    return tuple(measure_maps(diagnoser, case, mask, methods=METHODS))


def map_rows(scores: Sequence[MapScores], patients: np.ndarray, task: str, n_resamples: int) -> list[MapRow]:
    """Return a row a method, intervals over patients; a figure that no case has is left out."""
    rows = []
    for method in METHODS:
        chosen = [index for index, score in enumerate(scores) if (score.task, score.method) == (task, method)]
        figures = {}
        for name, figure in _FIGURES.items():
            values = np.array([figure(scores[index]) for index in chosen])
            known = np.isfinite(values)
            if known.any():
                owners = patients[chosen][known]
                figures[name] = bootstrap(_mean, values[known], patients=owners, n_resamples=n_resamples)
        if figures:
            rows.append(MapRow(method=method, figures=figures))
    return rows


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
