"""Keep pretrained weights (safetensors) and full-graph embeddings (one .npy) with the hash of their graph."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from kg import GraphError, KnowledgeGraph
from pipelines.recipes.kg_pretraining.model import pretrained_layers
from pipelines.recipes.kg_pretraining.training import PretrainResult

WEIGHTS, EMBEDDINGS, ABOUT = "graph_encoder.safetensors", "embeddings.npy", "about.json"


def keep(result: PretrainResult, graph: KnowledgeGraph, folder: Path) -> None:
    """Write weights, embeddings and what they belong to; each file appears whole, the description last."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    layers = {name: tensor.contiguous() for name, tensor in pretrained_layers(result.model).items()}
    _write(folder / WEIGHTS, save(layers, metadata={"graph": graph.hash}))
    write_embeddings(result.embeddings, folder / EMBEDDINGS)
    about = {"graph": graph.hash, "test": result.test, "popularity": result.popularity}
    _write(folder / ABOUT, json.dumps(about, indent=1).encode())


def write_embeddings(embeddings: np.ndarray, path: Path) -> None:
    """Write (V, H) float32 embeddings as .npy (no pickle)."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(embeddings, dtype=np.float32), allow_pickle=False)
    _write(path, buffer.getvalue())


def read_embeddings(folder: Path, graph: KnowledgeGraph) -> np.ndarray:
    """Return memory-mapped embeddings (V, H) of a folder that `keep` wrote.

    Raises:
        GraphError: `kg.version` if they belong to another graph.
    """
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if about["graph"] != graph.hash:
        raise GraphError(
            f"Expected embeddings of graph {graph.hash[:12]} (got those of {about['graph'][:12]}).",
            remedy="Pretrain again on this graph.",
        )
    found: np.ndarray = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
    return found


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
