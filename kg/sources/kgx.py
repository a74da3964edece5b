"""KGX TSV (https://github.com/biolink/kgx): a nodes file and an edges file with Biolink categories and predicates."""

from pathlib import Path

from kg.schema import ConceptRecord, RelationRecord, Scope, Source, SourceTables, Synonym, kind_of_category
from kg.sources.fingerprints import file_fingerprint
from kg.sources.prefixes import predicate_of
from kg.sources.tables import read_rows

_SYNONYM_COLUMNS: tuple[tuple[str, Scope], ...] = (
    ("synonym", "exact"),
    ("exact_synonym", "exact"),
    ("narrow_synonym", "narrow"),
    ("broad_synonym", "broad"),
    ("related_synonym", "related"),
)


def read_kgx(nodes: Path) -> SourceTables:
    """Return the records of `X_nodes.tsv` (or `nodes.tsv`) and the edges file beside it.

    A missing edges file means concepts only. Unknown categories become the kind `category`.
    """
    edges = nodes.with_name(nodes.name.replace("nodes", "edges"))
    has_edges = edges != nodes and edges.exists()
    fingerprint = file_fingerprint(nodes) + (file_fingerprint(edges) if has_edges else "")
    source = Source(
        name=nodes.name.split(".")[0].removesuffix("nodes").strip("_-").lower() or "kgx",
        version=fingerprint[:12],
        licence="as stated by the file's origin",
        fingerprint=fingerprint,
    )
    tables = SourceTables(source=source)
    for row in read_rows(nodes, ("id", "category", "name")):
        synonyms = tuple(
            Synonym(text, scope) for column, scope in _SYNONYM_COLUMNS for text in _list(row.get(column, ""))
        )
        tables.concepts.append(
            ConceptRecord(
                row["id"],
                _kind(row["category"]),
                row["name"],
                synonyms,
                tuple(_list(row.get("xref", ""))),
                row.get("description", ""),
                tuple(_list(row.get("same_as", ""))),
            )
        )
    if has_edges:
        for row in read_rows(edges, ("subject", "predicate", "object")):
            polarity = -1 if row.get("negated", "").lower() in ("true", "1") else 1
            weight = _weight(row.get("weight", ""), tables)
            tables.relations.append(
                RelationRecord(row["subject"], predicate_of(row["predicate"]), row["object"], weight, polarity)
            )
    return tables


def _kind(categories: str) -> str:
    """The first category that names a kind; a node may carry its ancestors' categories too."""
    kinds = [kind_of_category(category) for category in _list(categories)]
    return next((kind for kind in kinds if kind != "category"), "category")


def _list(text: str) -> list[str]:
    return [part for part in text.split("|") if part]


def _weight(text: str, tables: SourceTables) -> float:
    if not text:
        return 1.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        tables.defects["weights outside (0, 1]"] += 1
        return 1.0
    return value
