"""BM25 over texts in the linker's normal form: the plain-text yardstick, and a scorer over the graph's own sentences.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009. Terms are folded tokens
and pairs of neighbours, so "left atrium" counts for more than "left".
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from kg.text.normalise import normalise
from kg.text.stop_terms import FUNCTION_WORDS

K1 = 1.2
B = 0.75


class LexicalIndex:
    """Documents as a sparse term matrix; scores any text against all of them at once."""

    def __init__(self, documents: Sequence[str], *, k1: float = K1, b: float = B) -> None:
        from scipy import sparse

        counts = [Counter(terms(text)) for text in documents]
        vocabulary = sorted({term for one in counts for term in one})
        self._column = {term: at for at, term in enumerate(vocabulary)}
        lengths = np.array([sum(one.values()) for one in counts], dtype=np.float64)
        rows = np.repeat(np.arange(len(counts)), [len(one) for one in counts])
        columns = np.array([self._column[term] for one in counts for term in one], dtype=np.int64)
        values = np.array([value for one in counts for value in one.values()], dtype=np.float64)
        held = np.bincount(columns, minlength=len(vocabulary)) if len(columns) else np.zeros(len(vocabulary))
        rarity = np.log1p((len(documents) - held + 0.5) / (held + 0.5))
        mean = lengths.mean() if lengths.size and lengths.sum() else 1.0
        weight = values * (k1 + 1) / (values + k1 * (1 - b + b * lengths[rows] / mean)) * rarity[columns]
        self._matrix = sparse.csr_array((weight, (rows, columns)), shape=(len(documents), len(vocabulary)))

    def scores(self, text: str) -> np.ndarray:
        """Return (n,) scores of the documents; a term of the query counts once, however often it is written."""
        query = np.zeros(len(self._column))
        for term in set(terms(text)):
            if (column := self._column.get(term)) is not None:
                query[column] = 1.0
        result: np.ndarray = self._matrix @ query
        return result


def terms(text: str) -> Iterable[str]:
    """Yield folded words and pairs of neighbouring words."""
    words = normalise(text).tokens
    for at, word in enumerate(words):
        if word in FUNCTION_WORDS:
            continue
        yield word
        if at + 1 < len(words) and words[at + 1] not in FUNCTION_WORDS:
            yield f"{word} {words[at + 1]}"
