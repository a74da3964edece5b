"""Concept names as vectors without a language model: hashed words and character trigrams.

The graph has some 80,000 names; a language model needs minutes for them, this a few seconds, and a case's 250 concepts
cost milliseconds. Related names share parts ("astrocytoma", "anaplastic astrocytoma"), so they lie near each other.
Source: hashing trick (Weinberger et al., ICML 2009) over fastText-like subwords (Bojanowski et al., TACL 2017).
"""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

NAME_WIDTH = 96
_WORD = re.compile(r"[a-z0-9]+")


def name_vectors(names: Sequence[str]) -> np.ndarray:
    """Return float32 (N, 96), each of length 1 (0 for a name without letters or digits)."""
    return np.stack([_name_vector(name) for name in names]) if names else np.zeros((0, NAME_WIDTH), np.float32)


@lru_cache(maxsize=200_000)
def _name_vector(name: str) -> np.ndarray:
    vector = np.zeros(NAME_WIDTH, dtype=np.float32)
    for word in _WORD.findall(name.lower()):
        padded = f"<{word}>"
        pieces = [word, *(padded[start : start + 3] for start in range(len(padded) - 2))]
        for piece in pieces:
            digest = zlib.crc32(piece.encode())
            vector[digest % NAME_WIDTH] += (1.0 if digest >> 31 else -1.0) / len(pieces) ** 0.5
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector
