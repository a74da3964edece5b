"""Labels for cases that have none, from a model that is sure of them."""

import numpy as np

UNKNOWN = -1


def pseudo_labels(probabilities: np.ndarray, min_confidence: float, *, max_a_class: int | None = None) -> np.ndarray:
    """Return class indices (N,) of the cases that the model is sure of, -1 for the rest.

    Args:
        probabilities: (N, L), calibrated: an overconfident model teaches itself its errors.
        min_confidence: Of the most probable class.
        max_a_class: The surest cases of each class only, so that a frequent class does not take over.

    Source: Lee, "Pseudo-label", ICML workshop 2013; the cap as in Zou et al., class-balanced self-training, ECCV 2018.
    """
    confidence, best = probabilities.max(axis=1), probabilities.argmax(axis=1)
    labels = np.where(confidence >= min_confidence, best, UNKNOWN)
    if max_a_class is not None:
        for label in np.unique(best):
            rows = np.flatnonzero(labels == label)
            labels[rows[np.argsort(-confidence[rows], kind="stable")][max_a_class:]] = UNKNOWN
    return labels


def with_pseudo_labels(target: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    """Return the targets with unknown ones filled; what is known is never overwritten."""
    return np.where(target == UNKNOWN, pseudo, target)
