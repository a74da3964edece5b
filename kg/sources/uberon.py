"""UBERON, an anatomy ontology: names, synonyms, next ancestors. Needs the extra `mondo`.

The packed file mixes is_a and part_of, so a parent is only said to be related.
"""

from kg.schema import RELATED_TO, Source, SourceTables
from kg.sources.cellxgene import fingerprint_of, read_terms, version_of

ONTOLOGY = "UBERON"


def fingerprint() -> str:
    """Return the identity of the installed file."""
    return fingerprint_of(ONTOLOGY)


def read() -> SourceTables:
    """Return anatomy with synonyms and related wider terms."""
    source = Source(
        name="uberon",
        version=version_of(ONTOLOGY),
        licence="CC BY 3.0",
        citation="Mungall et al., Uberon, an integrative multi-species anatomy ontology, Genome Biology 2012;13:R5",
        url="https://obophenotype.github.io/uberon",
        fingerprint=fingerprint(),
    )
    return read_terms(ONTOLOGY, source, kind="anatomy", parent=RELATED_TO)
