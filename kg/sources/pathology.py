"""Names that pathologists give to lesions of breast, prostate, bowel, bladder, cervix and lung, shipped with kg.

The other sources know few of them. Two CSV files in the format of a hospital's own knowledge; terms follow the WHO
Classification of Tumours (5th edition) and common usage, written for this package: names, other names, parents, organ.
"""

from pathlib import Path

from kg.schema import Source, SourceTables
from kg.sources.fingerprints import file_fingerprint
from kg.sources.local import read_local

CONCEPTS = Path(__file__).parent.parent / "data" / "pathology_concepts.csv"
RELATIONS = Path(__file__).parent.parent / "data" / "pathology_relations.csv"
VERSION = "1"


def fingerprint() -> str:
    """Return the identity of the two files."""
    return file_fingerprint(CONCEPTS) + file_fingerprint(RELATIONS)


def read() -> SourceTables:
    """Return pathology concepts with their parents and organs."""
    tables = read_local(CONCEPTS)
    tables.source = Source(
        name="pathology",
        version=VERSION,
        licence="Apache-2.0",
        trust=0.9,
        citation="medmm, after the names in WHO Classification of Tumours, 5th edition",
        fingerprint=fingerprint(),
    )
    return tables
