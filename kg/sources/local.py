"""A hospital's own knowledge in two CSV files: `X_concepts.csv` and `X_relations.csv`.

concepts: `id, kind, name, synonyms, xrefs, text` (only the first three are needed; lists are joined by `|`).
relations: `subject, predicate, object, weight, polarity` (the first three needed). Ids may be those of any
source, which adds to its concepts, or your own with the prefix LOCAL. Both are in UTF-8, with commas or, as some
spreadsheets write, semicolons.
"""

from collections.abc import Iterator
from pathlib import Path

from kg.errors import SourceError
from kg.schema import KINDS, ConceptRecord, RelationRecord, Source, SourceTables, Synonym
from kg.sources.fingerprints import file_fingerprint
from kg.sources.opening import open_text
from kg.sources.prefixes import predicate_of
from kg.sources.tables import read_rows


def read_local(concepts: Path) -> SourceTables:
    """Return the records of a concepts file and the relations file beside it.

    Raises:
        SourceError: If a kind is not known, or a weight or polarity is out of range; an id or a name is
            missing; the message names the place.
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
    for place, row in _rows(concepts, ("id", "kind", "name")):
        kind = row["kind"].lower()
        if kind not in KINDS:
            raise SourceError(f"Expected one of {', '.join(KINDS)} as kind in {place} (got {kind!r}).")
        if not (row["id"] and row["name"]):
            raise SourceError(f"Expected an id and a name in {place}.", remedy="Fill them in, or delete the line.")
        synonyms = tuple(Synonym(text.strip()) for text in row.get("synonyms", "").split("|") if text.strip())
        xrefs = tuple(text.strip() for text in row.get("xrefs", "").split("|") if text.strip())
        tables.concepts.append(ConceptRecord(row["id"], kind, row["name"], synonyms, xrefs, row.get("text", "")))
    if has_relations:
        rows = _rows(relations, ("subject", "predicate", "object"))
        tables.relations = [_relation(row, place) for place, row in rows]
    return tables


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows as spreadsheets write them, each with its place: cells are stripped and empty rows passed over."""
    with open_text(path) as stream:
        header = stream.readline()
    delimiter = ";" if ";" in header and "," not in header else ","  # as Excel writes where a comma is a decimal point
    for number, row in enumerate(read_rows(path, needed, delimiter=delimiter, is_quoted=True), start=2):
        stripped = {name.strip(): value.strip() for name, value in row.items()}
        if any(stripped.values()):
            yield f"line {number} of {path.name}", stripped


def _relation(row: dict[str, str], place: str) -> RelationRecord:
    try:
        weight = float(row.get("weight") or 1)
        polarity = int(row.get("polarity") or 1)
    except ValueError as error:
        raise SourceError(
            f"Expected a number as weight and polarity in {place}.", remedy="Write 0.4 with a point, and 1 or -1."
        ) from error
    if not (row["subject"] and row["predicate"] and row["object"]):
        raise SourceError(f"Expected a subject, a predicate and an object in {place}.")
    if not 0 < weight <= 1 or polarity not in (1, -1):
        raise SourceError(f"Expected weight in (0, 1] and polarity 1 or -1 in {place} (got {weight} and {polarity}).")
    return RelationRecord(row["subject"], predicate_of(row["predicate"]), row["object"], weight, polarity)
