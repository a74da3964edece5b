"""A hospital's own knowledge in two CSV files: `X_concepts.csv` and `X_relations.csv`.

concepts: `id, kind, name, synonyms, xrefs, text` (only the first three are needed; lists are joined by `|`).
relations: `subject, predicate, object, weight, polarity` (the first three needed). Ids may be those of any
source, which adds to its concepts, or your own with the prefix LOCAL.
"""

from pathlib import Path

from kg.errors import SourceError
from kg.schema import KINDS, ConceptRecord, RelationRecord, Source, SourceTables, Synonym
from kg.sources.fingerprints import file_fingerprint
from kg.sources.prefixes import predicate_of
from kg.sources.tables import read_rows


def read_local(concepts: Path) -> SourceTables:
    """Return the records of a concepts file and the relations file beside it.

    Raises:
        SourceError: If a kind is not known, or a weight or polarity is out of range; the message names the line.
    """
    relations = concepts.with_name(concepts.name.replace("concepts", "relations"))
    has_relations = relations != concepts and relations.exists()
    fingerprint = file_fingerprint(concepts) + (file_fingerprint(relations) if has_relations else "")
    source = Source(
        name=concepts.stem.removesuffix("concepts").strip("_-").lower() or "local",
        version=fingerprint[:12],
        licence="the owner's",
        fingerprint=fingerprint,
    )
    tables = SourceTables(source=source)
    for number, row in enumerate(read_rows(concepts, ("id", "kind", "name"), delimiter=",", is_quoted=True), start=2):
        if row["kind"] not in KINDS:
            raise SourceError(
                f"Expected one of {', '.join(KINDS)} as kind in line {number} of {concepts.name} (got {row['kind']!r})."
            )
        synonyms = tuple(Synonym(text.strip()) for text in row.get("synonyms", "").split("|") if text.strip())
        xrefs = tuple(text.strip() for text in row.get("xrefs", "").split("|") if text.strip())
        tables.concepts.append(ConceptRecord(row["id"], row["kind"], row["name"], synonyms, xrefs, row.get("text", "")))
    if has_relations:
        rows = read_rows(relations, ("subject", "predicate", "object"), delimiter=",", is_quoted=True)
        tables.relations = [_relation(row, f"line {number} of {relations.name}") for number, row in enumerate(rows, 2)]
    return tables


def _relation(row: dict[str, str], place: str) -> RelationRecord:
    try:
        weight = float(row.get("weight") or 1)
        polarity = int(row.get("polarity") or 1)
    except ValueError as error:
        raise SourceError(f"Expected a number as weight and polarity in {place}.") from error
    if not 0 < weight <= 1 or polarity not in (1, -1):
        raise SourceError(f"Expected weight in (0, 1] and polarity 1 or -1 in {place} (got {weight} and {polarity}).")
    return RelationRecord(row["subject"], predicate_of(row["predicate"]), row["object"], weight, polarity)
