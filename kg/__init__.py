"""The medical knowledge graph: concepts, relations, linking, ranking. Usable alone; no torch.

>>> import kg
>>> graph = kg.load_default()                                       # doctest: +SKIP
>>> kg.rank(kg.link("Ring-enhancing lesion, no hemorrhage."), graph)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kg.building import build, load_default
    from kg.errors import GraphError, KgError, LimitError, SourceError
    from kg.evidence import EvidencePath, Hop, paths
    from kg.graph import KnowledgeGraph
    from kg.ranking import RankedDiagnosis, rank
    from kg.schema import Source
    from kg.storage import read, write
    from kg.subgraph import Subgraph
    from kg.text.linker import Linker, link
    from kg.text.mention import Mention

__all__ = [
    "EvidencePath",
    "GraphError",
    "Hop",
    "KgError",
    "KnowledgeGraph",
    "LimitError",
    "Linker",
    "Mention",
    "RankedDiagnosis",
    "Source",
    "SourceError",
    "Subgraph",
    "build",
    "link",
    "load_default",
    "paths",
    "rank",
    "read",
    "write",
]

_HOME = {
    "EvidencePath": "kg.evidence",
    "GraphError": "kg.errors",
    "Hop": "kg.evidence",
    "KgError": "kg.errors",
    "KnowledgeGraph": "kg.graph",
    "LimitError": "kg.errors",
    "Linker": "kg.text.linker",
    "Mention": "kg.text.mention",
    "RankedDiagnosis": "kg.ranking",
    "Source": "kg.schema",
    "SourceError": "kg.errors",
    "Subgraph": "kg.subgraph",
    "build": "kg.building",
    "link": "kg.text.linker",
    "load_default": "kg.building",
    "paths": "kg.evidence",
    "rank": "kg.ranking",
    "read": "kg.storage",
    "write": "kg.storage",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kg' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
