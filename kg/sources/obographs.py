"""Obographs JSON (https://github.com/geneontology/obographs), which the OBO Foundry publishes beside OBO and OWL."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from kg.errors import SourceError
from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Scope, Source, SourceTables, Synonym
from kg.sources.fingerprints import file_fingerprint
from kg.sources.opening import open_text
from kg.sources.prefixes import curie_of, kind_of_prefix, predicate_of

_SCOPES: dict[str, Scope] = {
    "hasExactSynonym": "exact",
    "hasNarrowSynonym": "narrow",
    "hasBroadSynonym": "broad",
    "hasRelatedSynonym": "related",
}
_REPLACED_BY = ("http://purl.obolibrary.org/obo/IAO_0100001", "IAO:0100001")
_ALTERNATIVE = "http://www.geneontology.org/formats/oboInOwl#hasAlternativeId"


def read_obographs(path: Path) -> SourceTables:
    """Return the classes of every graph in the file, with synonyms, xrefs and edges.

    Raises:
        SourceError: If the file is not obographs JSON.
    """
    try:
        with open_text(path) as stream:
            document = json.load(stream)
        graphs = document["graphs"]
        nodes = [node for graph in graphs for node in graph.get("nodes", ()) if node.get("type", "CLASS") == "CLASS"]
        edges = [edge for graph in graphs for edge in graph.get("edges", ())]
        version = (graphs[0].get("meta") or {}).get("version") or "unknown"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise SourceError(f"Expected obographs JSON in {path.name} ({type(error).__name__}).") from error
    name = path.name.split(".")[0].lower()
    source = Source(
        name=name, version=version, licence="as stated by the file's origin", fingerprint=file_fingerprint(path)
    )
    tables = SourceTables(source=source)
    replaced = _replaced(nodes)
    for node in nodes:
        _add_node(tables, node, replaced)
    for edge in edges:
        predicate = SUBCLASS_OF if edge["pred"] == "is_a" else predicate_of(edge["pred"])
        tables.relations.append(RelationRecord(curie_of(edge["sub"]), predicate, curie_of(edge["obj"])))
    return tables


def _add_node(tables: SourceTables, node: dict[str, Any], replaced: dict[str, list[str]]) -> None:
    meta = node.get("meta") or {}
    if meta.get("deprecated"):
        tables.defects["obsolete terms"] += 1
        return
    curie = curie_of(node["id"])
    synonyms = tuple(
        Synonym(one["val"], _SCOPES.get(one.get("pred", ""), "related")) for one in meta.get("synonyms", ())
    )
    xrefs = tuple(dict.fromkeys(curie_of(one["val"]) for one in meta.get("xrefs", ())))
    values = meta.get("basicPropertyValues", ())
    aliases = [curie_of(one["val"]) for one in values if one["pred"] == _ALTERNATIVE]
    definition = (meta.get("definition") or {}).get("val", "")
    tables.concepts.append(
        ConceptRecord(
            curie,
            kind_of_prefix(curie),
            node.get("lbl") or "",
            synonyms,
            xrefs,
            definition,
            (*aliases, *replaced.get(curie, ())),
        )
    )


def _replaced(nodes: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        meta = node.get("meta") or {}
        if meta.get("deprecated"):
            for one in meta.get("basicPropertyValues", ()):
                if one["pred"] in _REPLACED_BY:
                    found[curie_of(one["val"])].append(curie_of(node["id"]))
    return found
