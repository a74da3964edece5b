"""Out-of-fold answers, and ablations: the model without a modality, without the graph, with a shuffled one.

Every case is answered by a model that was fitted, weights and all, without its fold.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.recipes.radiology_cases.cases import Diagnosis
from pipelines.recipes.radiology_cases.features import Features
from pipelines.recipes.radiology_cases.labels import Labels
from pipelines.recipes.radiology_cases.model import Answers, answer, fit_parts, weigh
from pipelines.recipes.radiology_cases.opinions import Controls
from pipelines.recipes.radiology_cases.pool import folds

logger = logging.getLogger(__name__)

N_FOLDS = 5
# By name, what is left out; `shuffled_graph` leaves nothing out and reads the features of another graph.
ABLATIONS: Mapping[str, Controls] = {
    "full": Controls(),
    "no_text": Controls(without=frozenset({"text"})),
    "no_pictures": Controls(without=frozenset({"pictures"})),
    "no_record": Controls(without=frozenset({"record"})),
    "no_graph": Controls(without=frozenset({"graph"})),
    "shuffled_graph": Controls(),
}


def cross_validate(
    features: Features,
    labels: Labels,
    diagnoses: Sequence[Diagnosis],
    names: np.ndarray,
    ablations: Mapping[str, Features],
    *,
    n_folds: int = N_FOLDS,
    seed: int = 0,
) -> dict[str, Answers]:
    """Return answers by ablation, each case's from a model that never saw it.

    Args:
        features: All cases.
        labels: Theirs.
        diagnoses: The candidates (n).
        names: (n, 384) vectors of their names.
        ablations: Names out of `ABLATIONS`, and the features that the ablation reads.
        n_folds: Parts of the split.
        seed: Of the split.
    """
    fold = folds(len(features.cases), n_folds, seed)
    found: dict[str, Answers] = {}
    for index in range(n_folds):
        logger.info("Fold %d of %d.", index + 1, n_folds)
        held_out = fold == index
        for name, answered in answer_held_out(ablations, labels, held_out, diagnoses, names).items():
            found[name] = _with_rows(found.get(name), answered, held_out, features.owner)
    return found


def learning_curve(
    features: Features,
    labels: Labels,
    held_out: np.ndarray,
    diagnoses: Sequence[Diagnosis],
    names: np.ndarray,
    shares: Sequence[float],
    *,
    seed: int = 0,
) -> dict[float, Answers]:
    """Return answers by share for the cases where `held_out` (N,) is true, learned from that share of the others.

    A smaller share is part of every larger one.
    """
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~held_out))
    found = {}
    for share in shares:
        chosen = np.isin(np.arange(len(held_out)), order[: round(share * len(order))])
        few = labels.only(chosen, features.owner)
        found[share] = answer_held_out({"full": features}, few, held_out, diagnoses, names)["full"]
    return found


def answer_held_out(
    features: Mapping[str, Features],
    labels: Labels,
    held_out: np.ndarray,
    diagnoses: Sequence[Diagnosis],
    names: np.ndarray,
) -> dict[str, Answers]:
    """Return answers by ablation for the cases where `held_out` (N,) is true, from models fitted on the others.

    Args:
        features: By name out of `ABLATIONS`, what the ablation reads of all cases.
        labels: Of all cases.
        held_out: Whose labels are not looked at.
        diagnoses: The candidates (n).
        names: (n, 384) vectors of their names.
    """
    first = next(iter(features.values()))
    others = labels.only(~held_out, first.owner)
    parts = fit_parts(first, others, diagnoses, names)
    found: dict[str, Answers] = {}
    for name, own in features.items():
        model = weigh(parts, own, others, diagnoses, names, ABLATIONS[name])
        found[name] = answer(model, own.only(held_out), ABLATIONS[name])
    return found


def _with_rows(before: Answers | None, new: Answers, rows: np.ndarray, owner: np.ndarray) -> Answers:
    """The answers so far, with those of some cases put in. Pairs are scored inside a fold; the rest is out of reach."""
    shown = rows[owner]
    sizes = {"captions": (len(shown), len(shown)), "findings": (len(shown), len(rows))}
    if before is None:
        before = Answers(
            pictures={name: np.zeros((len(shown), value.shape[1])) for name, value in new.pictures.items()},
            cases={name: np.zeros((len(rows), value.shape[1])) for name, value in new.cases.items()},
            diagnoses={name: np.zeros((len(rows), value.shape[1])) for name, value in new.diagnoses.items()},
            pairs={name: np.full(sizes[name], -np.inf) for name in new.pairs},
        )
    for old, values, kept in (
        (before.pictures, new.pictures, shown),
        (before.cases, new.cases, rows),
        (before.diagnoses, new.diagnoses, rows),
    ):
        for name, value in values.items():
            old[name][kept] = value
    for name, value in new.pairs.items():
        before.pairs[name][np.ix_(shown, shown if name == "captions" else rows)] = value
    return before
