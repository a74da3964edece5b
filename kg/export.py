"""Write a graph for other tools: KGX TSV (nodes and edges with provenance) and GraphML."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from kg.schema import KINDS

if TYPE_CHECKING:
    from kg.graph import KnowledgeGraph

_NODE_COLUMNS = ("id", "category", "name", "exact_synonym", "related_synonym", "xref", "same_as", "provided_by")
_EDGE_COLUMNS = (
    "subject",
    "predicate",
    "object",
    "primary_knowledge_source",
    "source_version",
    "knowledge_level",
    "agent_type",
    "weight",
    "trust",
    "negated",
)


def write_kgx(graph: "KnowledgeGraph", folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `nodes.tsv` and `edges.tsv` (https://github.com/biolink/kgx) and return their paths."""
    folder = Path(folder)
    nodes, edges = folder / "nodes.tsv", folder / "edges.tsv"
    with _whole_file(nodes) as stream:
        _row(stream, _NODE_COLUMNS)
        for index in range(graph.n_concepts):
            synonyms = graph.synonyms(index)
            exact = [one.text for one in synonyms if one.scope in ("exact", "abbreviation")]
            related = [one.text for one in synonyms if one.scope not in ("exact", "abbreviation")]
            own = graph.id(index)
            same = [alias for alias in graph.aliases(index) if alias != own]
            origin = graph.sources[graph.arrays["origin"][index]].name
            lists = (_list(exact), _list(related), _list(graph.xrefs(index)), _list(same))
            _row(stream, (own, KINDS[graph.kind(index)], graph.name(index), *lists, origin))
    arrays, ids = graph.arrays, graph.ids.to_list()
    with _whole_file(edges) as stream:
        _row(stream, _EDGE_COLUMNS)
        for row, (subject, predicate, target) in enumerate(graph.iterate_relations()):
            source = graph.sources[arrays["relation_source"][row]]
            weight = f"{arrays['weight'][row]:.6g}"
            negated = "true" if arrays["polarity"][row] < 0 else ""
            provenance = (source.name, source.version, source.knowledge_level, source.agent_type)
            _row(
                stream,
                (
                    ids[subject],
                    graph.predicates[predicate],
                    ids[target],
                    *provenance,
                    weight,
                    str(source.trust),
                    negated,
                ),
            )
    return nodes, edges


def write_graphml(graph: "KnowledgeGraph", path: str | os.PathLike[str], concepts: np.ndarray | None = None) -> Path:
    """Write GraphML of the given concepts (all where None) for Gephi, Cytoscape or yEd."""
    import networkx

    from kg.views import to_networkx

    target = Path(path)
    view = to_networkx(graph, concepts)
    with _whole_file(target) as stream:
        stream.write("\n".join(networkx.generate_graphml(view)))
        stream.write("\n")
    return target


@contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
    """A text stream whose file appears under its name only once it is complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _row(stream: TextIO, cells: tuple[str, ...]) -> None:
    stream.write("\t".join(cell.replace("\t", " ").replace("\n", " ").replace("\r", " ") for cell in cells) + "\n")


def _list(texts: tuple[str, ...] | list[str]) -> str:
    return "|".join(text.replace("|", "/") for text in texts)
