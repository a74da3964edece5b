"""The words of the graph: kinds, predicates, sources, and the records that readers hand to the builder.

Kinds and predicates follow the Biolink model (https://w3id.org/biolink) and the Relation Ontology; `medmm:` marks the
few that imaging needs and neither has. Readers give records, `kg.building` turns them into columns.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Scope = Literal["exact", "abbreviation", "narrow", "broad", "related"]
SCOPES: tuple[Scope, ...] = ("exact", "abbreviation", "narrow", "broad", "related")

# Internal kind -> Biolink category, as written to KGX files.
KINDS: dict[str, str] = {
    "disease": "biolink:Disease",
    "finding": "biolink:ClinicalFinding",
    "phenotype": "biolink:PhenotypicFeature",
    "anatomy": "biolink:AnatomicalEntity",
    "modality": "biolink:Procedure",
    "gene": "biolink:Gene",
    "code": "biolink:InformationContentEntity",
    "category": "biolink:NamedThing",
}

SUBCLASS_OF = "biolink:subclass_of"
PART_OF = "biolink:part_of"
HAS_PART = "biolink:has_part"
HAS_PHENOTYPE = "biolink:has_phenotype"
HAS_IMAGING_FINDING = "medmm:has_imaging_finding"
LOCATED_IN = "biolink:located_in"
DISEASE_LOCATION = "biolink:disease_has_location"
EXACT_MATCH = "biolink:exact_match"
CLOSE_MATCH = "biolink:close_match"
GENE_CONDITION = "biolink:gene_associated_with_condition"
SEEN_ON = "medmm:seen_on"
IN_CATEGORY = "medmm:in_category"
# Outside the fixed order below: what a source relates without saying how.
RELATED_TO = "biolink:related_to"

# Fixed order: a predicate's position is its relation id, so that embeddings trained on one graph fit another.
# The number is how readily evidence flows along an edge of this kind in a walk (0 = never); tuned on MedPix train+dev.
PREDICATES: dict[str, float] = {
    SUBCLASS_OF: 1.0,
    PART_OF: 1.0,
    HAS_PART: 1.0,
    HAS_PHENOTYPE: 1.0,
    HAS_IMAGING_FINDING: 1.0,
    LOCATED_IN: 0.5,
    DISEASE_LOCATION: 0.5,
    EXACT_MATCH: 1.0,
    CLOSE_MATCH: 1.0,
    GENE_CONDITION: 0.5,
    SEEN_ON: 0.0,
    IN_CATEGORY: 0.0,
}
OTHER_PREDICATE_FLOW = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where claims come from. `trust` (0-1) scales every edge of the source; `fingerprint` identifies its bytes."""

    name: str
    version: str
    licence: str
    trust: float = 1.0
    knowledge_level: str = "knowledge_assertion"
    agent_type: str = "manual_agent"
    citation: str = ""
    url: str = ""
    fingerprint: str = ""


class Synonym(NamedTuple):
    """Another name. `scope` is OBO's, plus `abbreviation`."""

    text: str
    scope: Scope = "exact"


class ConceptRecord(NamedTuple):
    """One concept as a source states it. `aliases` are ids that mean the same concept (alternative, replaced)."""

    id: str
    kind: str
    name: str
    synonyms: tuple[Synonym, ...] = ()
    xrefs: tuple[str, ...] = ()
    text: str = ""
    aliases: tuple[str, ...] = ()


class RelationRecord(NamedTuple):
    """One claim. `weight` (0-1) is its strength, such as a frequency; `polarity` is -1 where the source denies it."""

    subject: str
    predicate: str
    object: str
    weight: float = 1.0
    polarity: int = 1


class MappingRecord(NamedTuple):
    """Two ids of different vocabularies that mean the same, with their labels there (may be empty)."""

    subject: str
    object: str
    subject_name: str = ""
    object_name: str = ""


@dataclass(kw_only=True)
class SourceTables:
    """What one reader returns. `defects` counts what it had to leave out or repair, by reason."""

    source: Source
    concepts: list[ConceptRecord] = field(default_factory=list)
    relations: list[RelationRecord] = field(default_factory=list)
    mappings: list[MappingRecord] = field(default_factory=list)
    defects: Counter[str] = field(default_factory=Counter)


def kind_of_category(category: str) -> str:
    """The internal kind for a Biolink category or a common node type name; `category` where none fits."""
    word = category.rsplit(":", 1)[-1].replace("_", "").replace(" ", "").replace("/", "").lower()
    return _KIND_OF_WORD.get(word, "category")


_KIND_OF_WORD = {
    **{category.rsplit(":", 1)[-1].lower(): kind for kind, category in KINDS.items()},
    **{kind: kind for kind in KINDS},
    "diseaseorphenotypicfeature": "disease",
    "effectphenotype": "phenotype",
    "sideeffect": "phenotype",
    "symptom": "phenotype",
    "phenotypicabnormality": "phenotype",
    "grossanatomicalstructure": "anatomy",
    "geneprotein": "gene",
    "protein": "gene",
}
