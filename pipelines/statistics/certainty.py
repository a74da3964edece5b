"""Whether stated probabilities and prediction sets can be believed."""

import numpy as np


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray, n_bins: int = 5) -> float:
    """Mean gap between confidence and accuracy over equal-count bins (Naeini et al., AAAI 2015)."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(float)
    order = np.argsort(confidence, kind="stable")
    bins = [rows for rows in np.array_split(order, n_bins) if len(rows)]
    return float(sum(len(rows) * abs(confidence[rows].mean() - right[rows].mean()) for rows in bins) / len(truth))


def brier(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the truth, summed over classes: 0 is best, 2 is worst.

    For two classes it is twice the score of the positive class alone (Brier, Monthly Weather Review 1950).
    """
    right = np.zeros_like(probabilities)
    right[np.arange(len(truth)), truth] = 1
    return float(((probabilities - right) ** 2).sum(axis=1).mean())


def set_coverage(truth: np.ndarray, inside: np.ndarray) -> float:
    """Share of cases whose class is in their prediction set; `inside` is bool (N, L)."""
    return float(inside[np.arange(len(truth)), truth].mean())


def set_size(truth: np.ndarray, inside: np.ndarray) -> float:
    """Mean number of classes in the prediction set."""
    return float(inside.sum(axis=1).mean())
