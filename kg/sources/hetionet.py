"""Hetionet v1.0 (Himmelstein et al., eLife 2017;6:e26726): its JSON, or nodes TSV with SIF edges.

Only diseases, symptoms, anatomy and genes are kept; compounds and pathways say nothing about a case.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from kg.errors import SourceError
from kg.schema import (
    DISEASE_LOCATION,
    EXACT_MATCH,
    GENE_CONDITION,
    HAS_PHENOTYPE,
    ConceptRecord,
    RelationRecord,
    Source,
    SourceTables,
)
from kg.sources.fingerprints import file_fingerprint
from kg.sources.opening import open_text
from kg.sources.tables import read_rows

_KINDS = {"Disease": "disease", "Symptom": "phenotype", "Anatomy": "anatomy", "Gene": "gene"}
_PREFIXES = {"Gene": "NCBIGene", "Symptom": "MESH"}
# Metaedge abbreviation -> predicate, and whether the ends swap (a gene is associated with a disease).
_METAEDGES = {
    "DpS": (HAS_PHENOTYPE, False),
    "DlA": (DISEASE_LOCATION, False),
    "DaG": (GENE_CONDITION, True),
    "DrD": (EXACT_MATCH.replace("exact", "related"), False),
}
_JSON_EDGES = {
    ("Disease", "presents", "Symptom"): "DpS",
    ("Disease", "localizes", "Anatomy"): "DlA",
    ("Disease", "associates", "Gene"): "DaG",
    ("Disease", "resembles", "Disease"): "DrD",
}


def read_hetionet(path: Path) -> SourceTables:
    """Return Hetionet from `hetionet-*.json(.gz)`, or from `*nodes*.tsv` with `*edges*.sif(.gz)` beside it."""
    tables = SourceTables(
        source=Source(
            name="hetionet",
            version="1.0",
            licence="CC0 1.0 (some sources differ)",
            trust=0.8,
            citation="Himmelstein et al., eLife 2017;6:e26726",
            url="https://het.io",
            fingerprint=file_fingerprint(path),
        )
    )
    if ".json" in path.name:
        _read_json(path, tables)
    else:
        _add_nodes(tables, ((row["kind"], row["id"].partition("::")[2], row["name"]) for row in _nodes(path)))
        edges = next(iter(sorted(path.parent.glob("*edges*.sif*"))), None)
        if edges is None:
            raise SourceError(f"Expected an edges file (*edges*.sif) beside {path.name} (found none).")
        for row in read_rows(edges, ("source", "metaedge", "target")):
            ends = [tuple(row[end].split("::", 1)) for end in ("source", "target")]
            _add_edge(tables, row["metaedge"], *ends)
    return tables


def _nodes(path: Path) -> Iterable[dict[str, str]]:
    return read_rows(path, ("id", "name", "kind"))


def _read_json(path: Path, tables: SourceTables) -> None:
    try:
        with open_text(path) as stream:
            document = json.load(stream)
        _add_nodes(tables, ((n["kind"], str(n["identifier"]), n["name"]) for n in document["nodes"]))
        for edge in document["edges"]:
            (source, source_id), (target, target_id) = edge["source_id"], edge["target_id"]
            metaedge = _JSON_EDGES.get((source, edge["kind"], target), "")
            _add_edge(tables, metaedge, (source, str(source_id)), (target, str(target_id)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"Expected Hetionet JSON in {path.name} ({type(error).__name__}).") from error


def _add_nodes(tables: SourceTables, nodes: Iterable[tuple[str, str, str]]) -> None:
    for kind, identifier, name in nodes:
        if kind in _KINDS:
            tables.concepts.append(ConceptRecord(_curie(kind, identifier), _KINDS[kind], name))
        else:
            tables.defects[f"nodes of kind {kind}"] += 1


def _add_edge(tables: SourceTables, metaedge: str, source: tuple[str, ...], target: tuple[str, ...]) -> None:
    if metaedge not in _METAEDGES:
        tables.defects["edges of other kinds"] += 1
        return
    predicate, is_swapped = _METAEDGES[metaedge]
    ends = _curie(*source), _curie(*target)
    subject, object_ = reversed(ends) if is_swapped else ends
    tables.relations.append(RelationRecord(subject, predicate, object_))


def _curie(kind: str, identifier: str) -> str:
    prefix = _PREFIXES.get(kind)
    return f"{prefix}:{identifier}" if prefix else identifier
