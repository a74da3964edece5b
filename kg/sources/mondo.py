"""MONDO, a disease ontology that joins many others: names, synonyms, is_a. Needs the extra `mondo`."""

from kg.schema import SUBCLASS_OF, Source, SourceTables
from kg.sources.cellxgene import fingerprint_of, read_terms, version_of

ONTOLOGY = "MONDO"
# What is no disease of a patient: characteristics ("inherited", "not rare") and diseases of other animals.
LEFT_OUT = frozenset(("MONDO:0021125", "MONDO:0005583"))


def fingerprint() -> str:
    """Return the identity of the installed file."""
    return fingerprint_of(ONTOLOGY)


def read() -> SourceTables:
    """Return human diseases with their synonyms and parents."""
    source = Source(
        name="mondo",
        version=version_of(ONTOLOGY),
        licence="CC BY 4.0",
        citation="Vasilevsky et al., Mondo: unifying diseases for the world, by the world, medRxiv 2022",
        url="https://mondo.monarchinitiative.org",
        fingerprint=fingerprint(),
    )
    return read_terms(ONTOLOGY, source, kind="disease", parent=SUBCLASS_OF, without=LEFT_OUT)
