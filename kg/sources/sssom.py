"""Mapping sets in the Simple Standard for Sharing Ontological Mappings (https://w3id.org/sssom): same meanings, by id.

A mapping set adds no concept: it tells which ids of other vocabularies, and which of their labels, a concept has. Only
exact matches count. A curated one always does; one that a program proposed where both labels read the same, or where it
says that it is sure.
"""

import csv
from pathlib import Path

from kg.errors import SourceError
from kg.schema import MappingRecord, Source, SourceTables
from kg.sources.fingerprints import file_fingerprint
from kg.sources.opening import open_text
from kg.sources.prefixes import curie_of
from kg.text.normalise import normal_name

REQUIRED = ("subject_id", "predicate_id", "object_id", "mapping_justification")
EXACT = ("skos:exactMatch", "owl:equivalentClass", "oboInOwl:hasDbXref")
CURATED = "semapv:ManualMappingCuration"
# Least confidence at which a proposed mapping counts.
SURE = 0.9


def read_sssom(path: Path) -> SourceTables:
    """Return the exact mappings of a `.sssom.tsv` file.

    Raises:
        SourceError: If a required column is missing.
    """
    source = Source(
        name=path.name.removesuffix(".gz").removesuffix(".tsv").removesuffix(".sssom").lower(),
        version=file_fingerprint(path)[:12],
        licence="as stated by the file's origin",
        fingerprint=file_fingerprint(path),
    )
    tables = SourceTables(source=source)
    with open_text(path) as stream:
        rows = csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t")
        if missing := [name for name in REQUIRED if name not in (rows.fieldnames or ())]:
            raise SourceError(f"Expected the SSSOM column {missing[0]} in {path.name} (not there).")
        for row in rows:
            if None in row or None in row.values():
                tables.defects["rows with a wrong number of cells"] += 1
            elif _counts(row):
                labels = row.get("subject_label", ""), row.get("object_label", "")
                tables.mappings.append(MappingRecord(curie_of(row["subject_id"]), curie_of(row["object_id"]), *labels))
            else:
                tables.defects["mappings that are not exact or not sure"] += 1
    return tables


def _counts(row: dict[str, str]) -> bool:
    if row["predicate_id"] not in EXACT or row.get("predicate_modifier"):
        return False
    labels = {normal_name(row.get(name, "")) for name in ("subject_label", "object_label")}
    if row["mapping_justification"] == CURATED or (len(labels) == 1 and "" not in labels):
        return True
    try:
        return float(row.get("confidence") or 0) >= SURE
    except ValueError:
        return False
