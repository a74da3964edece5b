"""What is known of each candidate of a ranking, for the tasks that follow it: fitted on the training cases' labels."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from scipy import sparse

from medmm.calibration import UNKNOWN
from medmm.config import TaskSpec
from medmm.encoders.source_match import said_of
from medmm.following import FollowedRanking
from medmm.inputs import CaseReader
from pipelines.training.lexicon import fit_lexicon
from pipelines.training.linear import fit_linear

_C = 8.0  # inverse strength of the penalty, chosen on training cases of MedPix


def fit_following(reader: CaseReader, targets: Mapping[str, np.ndarray]) -> None:
    """Set the chances of the classes given each candidate, in place, in every task that follows a ranking.

    Args:
        reader: Front of the model.
        targets: Class indices (N,) of the training cases by task, -1 where unknown; cases that were held out must not
            be among them.
    """
    labels = reader.model.labels
    followed = {labels.task(name).follows for name in reader.model.following}
    known = {name: described(reader, labels.task(name)) for name in followed}
    for name, module in reader.model.following.items():
        task = labels.task(name)
        chances = chances_given(
            known[task.follows],
            targets[task.follows],
            targets[name],
            len(task.classes),
            c=_C,
        )
        cast(FollowedRanking, module).classes_of.copy_(torch.from_numpy(chances))


def described(reader: CaseReader, ranking: TaskSpec) -> sparse.csr_matrix:
    """Return (V, F): the words of each candidate's name and of what the graph's sources say of it, the name's vector.

    What does not tell candidates apart, the mean vector, is left out.
    """
    titles = [label.title for label in ranking.classes]
    said = titles
    if reader.graph is not None:
        said = [said_of(reader.graph, label.title, label.concept) for label in ranking.classes]
    words = fit_lexicon(said).vectors(said)
    vectors = reader.name_vectors(titles)
    if vectors is None:
        return words
    centred = (vectors - vectors.mean(dim=0)).double().cpu().numpy()
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return sparse.hstack([centred / np.maximum(lengths, 1e-9), words], format="csr")


def chances_given(
    described: sparse.csr_matrix, candidates: np.ndarray, targets: np.ndarray, n_classes: int, *, c: float
) -> np.ndarray:
    """Return chances (V, L) of each class given a candidate: how often its cases have it, and a guess from its words.

    The guess counts as one case, so that it decides alone for candidates without a case.

    Args:
        described: What is known of each candidate without any case (V, F).
        candidates: (N,) the right candidate of each case, -1 where unknown.
        targets: (N,) its class, -1 where unknown.
        n_classes: L.
        c: Inverse strength of the guessing classifier's penalty.
    """
    rows = np.flatnonzero((candidates != UNKNOWN) & (targets != UNKNOWN))
    candidates, targets = candidates[rows], targets[rows]
    guessed = fit_linear(described[candidates], targets, n_classes, c=c, is_balanced=False)
    counts = np.zeros((described.shape[0], n_classes))
    np.add.at(counts, (candidates, targets), 1)
    result: np.ndarray = (counts + guessed.probabilities(described)) / (counts.sum(axis=1, keepdims=True) + 1)
    return result
