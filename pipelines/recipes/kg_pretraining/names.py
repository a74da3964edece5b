"""Names as a sentence encoder reads them, in as many numbers as the hashed words that they stand in for."""

import numpy as np

from kg import KnowledgeGraph
from medmm.encoders.names import NAME_WIDTH


def minilm_names(graph: KnowledgeGraph) -> np.ndarray:
    """Return float32 (V, NAME_WIDTH) of length 1: MiniLM's vectors on their first principal axes. Minutes of CPU."""
    from pipelines.recipes.kg_evaluation.embedder import minilm

    vectors = minilm()(graph.names.to_list())
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    kept = centred @ axes[:, -NAME_WIDTH:]
    return (kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-9)).astype(np.float32)
