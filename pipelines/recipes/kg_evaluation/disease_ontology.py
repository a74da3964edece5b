"""The Disease Ontology's tables (terms, synonyms, is_a, xrefs as gzipped TSV) as a source of the graph."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Scope, Source, SourceTables, Synonym
from kg.sources.prefixes import curie_of

_SCOPES: dict[str, Scope] = {"EXACT": "exact", "NARROW": "narrow", "BROAD": "broad", "RELATED": "related"}


def read_disease_ontology(folder: Path) -> SourceTables:
    """Return diseases with synonyms, xrefs and parents from `doid_*.tsv.gz` in a folder."""
    synonyms: dict[str, list[Synonym]] = defaultdict(list)
    xrefs: dict[str, list[str]] = defaultdict(list)
    for row in _rows(folder / "doid_synonyms.tsv.gz"):
        synonyms[row["id"]].append(Synonym(row["synonym"], _SCOPES.get(row["scope"], "related")))
    for row in _rows(folder / "doid_xrefs.tsv.gz"):
        xrefs[row["id"]].append(curie_of(f"{row['vocabulary']}:{row['code']}"))
    source = Source(
        name="doid",
        version="2026-07-31",
        licence="CC0 1.0",
        citation="Schriml et al., Human Disease Ontology",
        url="https://disease-ontology.org",
    )
    tables = SourceTables(source=source)
    for row in _rows(folder / "doid_terms.tsv.gz"):
        curie = row["id"]
        tables.concepts.append(
            ConceptRecord(
                curie, "disease", row["label"], tuple(synonyms[curie]), tuple(xrefs[curie]), row["definition"] or ""
            )
        )
    tables.relations = [
        RelationRecord(row["id"], SUBCLASS_OF, row["parent_id"]) for row in _rows(folder / "doid_is_a.tsv.gz")
    ]
    return tables


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
