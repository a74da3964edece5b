"""A small graph whose answers can be worked out by hand, and the default graph built once a session."""

from pathlib import Path

import pytest

from kg import KnowledgeGraph
from kg.building import build_from_tables, load_default
from kg.schema import (
    HAS_IMAGING_FINDING,
    HAS_PHENOTYPE,
    SUBCLASS_OF,
    ConceptRecord,
    RelationRecord,
    Source,
    SourceTables,
    Synonym,
)


@pytest.fixture(scope="session")
def small_tables() -> list[SourceTables]:
    """Two sources: phenotypes of two rare diseases, and imaging findings of two brain lesions."""
    clinic = SourceTables(
        source=Source(name="clinic", version="1", licence="CC0", trust=1.0),
        concepts=[
            ConceptRecord("HP:1", "phenotype", "Seizure", (Synonym("Fits"),)),
            ConceptRecord("HP:2", "phenotype", "Focal seizure"),
            ConceptRecord("HP:3", "phenotype", "Headache"),
            ConceptRecord("OMIM:10", "disease", "Tuberous sclerosis", (Synonym("TSC", "abbreviation"),)),
            ConceptRecord("OMIM:11", "disease", "Brain abscess"),
        ],
        relations=[
            RelationRecord("HP:2", SUBCLASS_OF, "HP:1"),
            RelationRecord("OMIM:10", HAS_PHENOTYPE, "HP:2", 0.9),
            RelationRecord("OMIM:11", HAS_PHENOTYPE, "HP:3", 0.5),
            RelationRecord("OMIM:11", HAS_PHENOTYPE, "HP:1", 1.0, -1),
        ],
    )
    imaging = SourceTables(
        source=Source(name="imaging", version="2", licence="MIT", trust=0.5),
        concepts=[
            ConceptRecord("RSD:d/brain_abscess", "disease", "Brain Abscess", (), (), "Pus in the brain."),
            ConceptRecord("RSD:d/glioblastoma", "disease", "Glioblastoma", (Synonym("GBM", "abbreviation"),)),
            ConceptRecord("RSD:f/ring", "finding", "Ring enhancement"),
            ConceptRecord("RSD:f/thick_ring", "finding", "Thick irregular ring enhancement"),
            ConceptRecord("RSD:f/diffusion", "finding", "Restricted diffusion"),
        ],
        relations=[
            RelationRecord("RSD:d/brain_abscess", HAS_IMAGING_FINDING, "RSD:f/ring", 0.8),
            RelationRecord("RSD:d/brain_abscess", HAS_IMAGING_FINDING, "RSD:f/diffusion", 1.0),
            RelationRecord("RSD:d/glioblastoma", HAS_IMAGING_FINDING, "RSD:f/thick_ring", 0.8),
        ],
    )
    return [clinic, imaging]


@pytest.fixture(scope="session")
def small_graph(small_tables: list[SourceTables]) -> KnowledgeGraph:
    """Nine concepts from two sources."""
    return build_from_tables(small_tables)


@pytest.fixture(scope="session")
def default_graph(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeGraph:
    """The graph of the installed default sources, built in a folder of the tests."""
    folder: Path = tmp_path_factory.mktemp("kg-cache")
    return load_default(folder)
