"""Keep pretrained weights (safetensors), embeddings and test ranks (.npy) with the hash of their graph."""

import io
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kg import GraphError, KnowledgeGraph
from pipelines.recipes.kg_pretraining.measures import measures
from pipelines.recipes.kg_pretraining.model import LinkPredictor, pretrained_layers
from pipelines.recipes.kg_pretraining.training import PretrainResult

WEIGHTS, EMBEDDINGS, RANKS, ABOUT = "graph_encoder.safetensors", "embeddings.npy", "ranks.npy", "about.json"


def keep(result: PretrainResult, graph: KnowledgeGraph, folder: Path) -> None:
    """Write weights, embeddings, ranks and what they belong to; each file appears whole, the description last.

    Free vectors have no layers that the model could take over: no weights are written for them.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(result.model, LinkPredictor):
        layers = {name: tensor.contiguous() for name, tensor in pretrained_layers(result.model).items()}
        _write(folder / WEIGHTS, save(layers, metadata={"graph": graph.hash}))
    _write(folder / EMBEDDINGS, _npy(result.embeddings.astype(np.float32)))
    _write(folder / RANKS, _npy(result.table()))
    about = {
        "graph": graph.hash,
        "test": measures(result.ranks),
        "popularity": measures(result.popularity_ranks),
        "curve": [asdict(check) for check in result.curve],
    }
    _write(folder / ABOUT, json.dumps(about, indent=1).encode())


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


def read_ranks(folder: Path) -> np.ndarray:
    """Return the ranks of a folder that `keep` wrote, as `PretrainResult.table` gives them."""
    found: np.ndarray = np.load(folder / RANKS, allow_pickle=False)
    return found


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


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
