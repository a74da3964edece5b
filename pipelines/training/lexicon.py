"""What words say: TF-IDF over hashed words and letter sequences."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, HashingVectorizer

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
