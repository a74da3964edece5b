"""UMLS rich release format: MRCONSO (names), MRREL (relations), MRSTY (semantic types). Needs the user's own licence.

Source: UMLS Reference Manual, chapter 3 (https://www.ncbi.nlm.nih.gov/books/NBK9685/). Only English names in use.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from kg.errors import SourceError
from kg.schema import (
    DISEASE_LOCATION,
    HAS_PART,
    PART_OF,
    SUBCLASS_OF,
    ConceptRecord,
    RelationRecord,
    Source,
    SourceTables,
    Synonym,
)
from kg.sources.fingerprints import file_fingerprint
from kg.sources.opening import lines_of
from kg.sources.prefixes import curie_of

# Semantic type -> kind; concepts of other types are left out.
_KINDS = {
    "T047": "disease",
    "T191": "disease",
    "T019": "disease",
    "T020": "disease",
    "T046": "disease",
    "T048": "disease",
    "T037": "disease",
    "T190": "disease",
    "T049": "disease",
    "T033": "finding",
    "T034": "finding",
    "T184": "phenotype",
    "T023": "anatomy",
    "T029": "anatomy",
    "T030": "anatomy",
    "T024": "anatomy",
    "T060": "modality",
}
# MRREL reads "CUI2 RELA CUI1". Relation -> (predicate, whether CUI1 is the subject).
_RELATIONS = {
    "isa": (SUBCLASS_OF, False),
    "inverse_isa": (SUBCLASS_OF, True),
    "part_of": (PART_OF, False),
    "has_part": (HAS_PART, False),
    "finding_site_of": (DISEASE_LOCATION, True),
    "has_finding_site": (DISEASE_LOCATION, False),
}


def read_umls(folder: Path) -> SourceTables:
    """Return the clinical concepts of a folder with MRCONSO.RRF and MRSTY.RRF, and MRREL.RRF where present.

    Raises:
        SourceError: If a needed file is missing.
    """
    names_file, types_file = folder / "MRCONSO.RRF", folder / "MRSTY.RRF"
    for path in (names_file, types_file):
        if not path.exists():
            raise SourceError(
                f"Expected {path.name} in {folder.name} (not found).", remedy="Extract it by MetamorphoSys."
            )
    source = Source(
        name="umls",
        version=file_fingerprint(names_file)[:12],
        licence="UMLS Metathesaurus licence of the user",
        citation="Bodenreider, Nucleic Acids Research 2004;32:D267",
        fingerprint=file_fingerprint(names_file),
    )
    tables = SourceTables(source=source)
    kinds: dict[str, str] = {}
    for fields in _rows(types_file, 2):
        kinds.setdefault(fields[0], _KINDS.get(fields[1], ""))
        if not kinds[fields[0]]:
            kinds[fields[0]] = _KINDS.get(fields[1], "")
    _add_concepts(tables, names_file, kinds)
    relations_file = folder / "MRREL.RRF"
    if relations_file.exists():
        _add_relations(tables, relations_file, kinds)
    return tables


def _rows(path: Path, least: int) -> Iterator[list[str]]:
    for number, line in enumerate(lines_of(path), start=1):
        fields = line.split("|")
        if len(fields) < least:
            raise SourceError(f"Expected at least {least} fields in line {number} of {path.name} (got {len(fields)}).")
        yield fields


def _add_concepts(tables: SourceTables, path: Path, kinds: dict[str, str]) -> None:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    preferred: dict[str, str] = {}
    xrefs: dict[str, dict[str, None]] = defaultdict(dict)
    for fields in _rows(path, 17):
        cui, language, status, form, is_preferred = fields[0], fields[1], fields[2], fields[4], fields[6]
        vocabulary, code, text, suppressed = fields[11], fields[13], fields[14], fields[16]
        if language != "ENG" or not kinds.get(cui):
            continue
        if suppressed not in ("N", ""):
            tables.defects["suppressed names"] += 1
            continue
        names[cui][text] = None
        if status == "P" and form == "PF" and is_preferred == "Y":
            preferred.setdefault(cui, text)
        if code and code != "NOCODE":
            # Codes of OBO vocabularies carry their prefix themselves ("HP:0002088").
            xrefs[cui][curie_of(code if ":" in code else f"{vocabulary}:{code}")] = None
    for cui, known in names.items():
        name = preferred.get(cui, next(iter(known)))
        others = tuple(Synonym(text) for text in known if text != name)
        tables.concepts.append(ConceptRecord(f"UMLS:{cui}", kinds[cui], name, others, tuple(xrefs[cui])))


def _add_relations(tables: SourceTables, path: Path, kinds: dict[str, str]) -> None:
    for fields in _rows(path, 15):
        first, relation, second, label, suppressed = fields[0], fields[3], fields[4], fields[7], fields[14]
        key = label or {"PAR": "inverse_isa", "CHD": "isa"}.get(relation, "")
        # PAR: CUI2 is a parent of CUI1; CHD: CUI2 is a child of CUI1.
        if key not in _RELATIONS or not (kinds.get(first) and kinds.get(second)) or first == second:
            continue
        if suppressed not in ("N", ""):
            tables.defects["suppressed relations"] += 1
            continue
        predicate, is_first_subject = _RELATIONS[key]
        ends = (first, second) if is_first_subject else (second, first)
        tables.relations.append(RelationRecord(f"UMLS:{ends[0]}", predicate, f"UMLS:{ends[1]}"))
