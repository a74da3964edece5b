"""Softmax classifiers whose weights are plain arrays: logistic regression, also where some classes were never seen."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

NEVER_SEEN = -12.0  # logit of a class without a training case


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A softmax classifier: weights (L, F) and bias (L,)."""

    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray | sparse.csr_matrix) -> np.ndarray:
        """Return (N, L)."""
        logits = np.asarray(features @ self.weights.T) + self.bias
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: np.ndarray = chances / chances.sum(axis=1, keepdims=True)
        return result


def fit_linear(
    features: np.ndarray | sparse.csr_matrix,
    truth: np.ndarray,
    n_classes: int,
    *,
    c: float,
    is_balanced: bool = True,
) -> Linear:
    """Return logistic regression on the rows with a known class (truth -1 where unknown)."""
    rows = np.flatnonzero(truth >= 0)
    weights, bias = (
        np.zeros((n_classes, features.shape[1])),
        np.full(n_classes, NEVER_SEEN),
    )
    present = np.unique(truth[rows])
    if len(present) < 2:
        bias[present] = 0.0
        return Linear(weights=weights, bias=bias if len(present) else np.zeros(n_classes))
    fitted = LogisticRegression(C=c, max_iter=300, tol=1e-3, class_weight="balanced" if is_balanced else None)
    fitted.fit(features[rows], truth[rows])
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(present) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weights[present], bias[present] = coefficients, intercepts
    return Linear(weights=weights, bias=bias)
