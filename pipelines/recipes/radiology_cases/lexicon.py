"""What words say: TF-IDF over hashed words and letter sequences, and classifiers whose weights are plain arrays."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, HashingVectorizer
from sklearn.linear_model import LogisticRegression

_SPACE = 2**18
_NO_WORDS = re.compile(r"\d+")


def _hashed(texts: Sequence[str]) -> sparse.csr_matrix:
    """Counts (N, 2 * 2**18): words and pairs of words, then letter sequences of 3 to 5 within words."""
    options = {"n_features": _SPACE, "alternate_sign": False, "norm": None}
    words = HashingVectorizer(ngram_range=(1, 2), stop_words=sorted(ENGLISH_STOP_WORDS), **options)
    letters = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **options)
    return sparse.hstack([words.transform(texts), letters.transform(texts)], format="csr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """Which hashed columns (C,) are used, and what each weighs (C,)."""

    columns: np.ndarray
    weights: np.ndarray

    def vectors(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Return (N, C) of length 1 (Salton and Buckley, 1988; logarithmic counts), words and letters alike in sum."""
        counts = _hashed([_NO_WORDS.sub("0", text) for text in texts])[:, self.columns]
        counts.data = 1 + np.log(counts.data)
        weighted = counts @ sparse.diags_array(self.weights)
        n_words = int(np.searchsorted(self.columns, _SPACE))
        return (
            sparse.hstack(
                [_unit(weighted[:, :n_words]), _unit(weighted[:, n_words:])],
                format="csr",
            )
            / 2**0.5
        )


def fit_lexicon(texts: Sequence[str], at_least: int = 2) -> Lexicon:
    """Return the lexicon of what at least some of the texts hold."""
    counts = _hashed([_NO_WORDS.sub("0", text) for text in texts])
    held = np.bincount(counts.indices, minlength=counts.shape[1])
    columns = np.flatnonzero(held >= min(at_least, len(texts)))
    return Lexicon(columns=columns, weights=np.log((1 + len(texts)) / (1 + held[columns])) + 1)


def _unit(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    lengths = np.sqrt(rows.multiply(rows).sum(axis=1)).reshape(-1)
    return sparse.diags_array(1 / np.maximum(np.asarray(lengths).ravel(), 1e-9)) @ rows


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


NEVER_SEEN = -12.0  # logit of a class without a training case


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
