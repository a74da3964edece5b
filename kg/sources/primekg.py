"""PrimeKG's `kg.csv`: one row an edge, with both ends spelt out (Chandak et al., Scientific Data 2023;10:67).

The file states every edge in both directions and sometimes gives one id two names (issue 19 of its repository): the
first name is kept, the others become synonyms, and of a pair of opposite edges the first is kept. That is the one which
its builder wrote (build_graph.ipynb appends the reversed edges last): of "parent-child" edges the parent first between
diseases and between phenotypes, the child first between anatomical structures.
"""

from pathlib import Path

from kg.schema import (
    GENE_CONDITION,
    HAS_PHENOTYPE,
    SUBCLASS_OF,
    ConceptRecord,
    RelationRecord,
    Source,
    SourceTables,
    Synonym,
    kind_of_category,
)
from kg.sources.fingerprints import file_fingerprint
from kg.sources.prefixes import predicate_of
from kg.sources.tables import read_rows

_COLUMNS = ("relation", *(f"{end}_{part}" for end in "xy" for part in ("id", "type", "name", "source")))
_PREDICATES = {
    "disease_phenotype_positive": HAS_PHENOTYPE,
    "disease_phenotype_negative": HAS_PHENOTYPE,
    "disease_protein": GENE_CONDITION,
    "disease_disease": SUBCLASS_OF,
    "phenotype_phenotype": SUBCLASS_OF,
    "anatomy_anatomy": SUBCLASS_OF,
}
# Sources whose numbers are ids of an OBO ontology, with the width that ontology pads to.
_PADDED = {"MONDO": 7, "HPO": 7, "UBERON": 7, "GO": 7}
_PREFIX = {"HPO": "HP", "NCBI": "NCBIGene", "DrugBank": "DRUGBANK", "MONDO_grouped": "MONDO"}


def read_primekg(path: Path) -> SourceTables:
    """Return the nodes and edges of a `kg.csv`."""
    source = Source(
        name="primekg",
        version=file_fingerprint(path)[:12],
        licence="mixed, by source (see PrimeKG's README)",
        trust=0.8,
        citation="Chandak et al., Scientific Data 2023;10:67",
        fingerprint=file_fingerprint(path),
    )
    tables = SourceTables(source=source)
    names: dict[str, dict[str, None]] = {}
    kinds: dict[str, str] = {}
    seen: set[tuple[str, str, str]] = set()
    for row in read_rows(path, _COLUMNS, delimiter=",", is_quoted=True):
        ends = []
        for end in ("x", "y"):
            curie = _curie(row[f"{end}_source"], row[f"{end}_id"])
            names.setdefault(curie, {})[row[f"{end}_name"]] = None
            kinds.setdefault(curie, kind_of_category(row[f"{end}_type"]))
            ends.append(curie)
        relation = row["relation"]
        predicate = _PREDICATES.get(relation) or predicate_of(relation)
        subject, target = _directed(relation, row["x_type"], *ends)
        if (target, predicate, subject) not in seen and (subject, predicate, target) not in seen:
            seen.add((subject, predicate, target))
            polarity = -1 if relation.endswith("_negative") else 1
            tables.relations.append(RelationRecord(subject, predicate, target, 1.0, polarity))
    for curie, known in names.items():
        first, *others = known
        tables.defects["ids with two names"] += bool(others)
        tables.concepts.append(ConceptRecord(curie, kinds[curie], first, tuple(Synonym(text) for text in others)))
    return tables


def _directed(relation: str, x_type: str, x: str, y: str) -> tuple[str, str]:
    """Put the disease first in disease-phenotype edges, the gene first in disease-gene edges, and the child first."""
    if relation in ("disease_disease", "phenotype_phenotype"):
        return y, x
    if relation.startswith("disease_phenotype"):
        return (x, y) if x_type == "disease" else (y, x)
    if relation == "disease_protein":
        return (y, x) if x_type == "disease" else (x, y)
    return x, y


def _curie(source: str, identifier: str) -> str:
    prefix = _PREFIX.get(source, source)
    if source == "MONDO_grouped":  # several ids joined by "_": the group stands under the whole string
        return f"MONDO_GROUP:{identifier}"
    width = _PADDED.get(source, 0)
    return f"{prefix}:{identifier.split('.', maxsplit=1)[0].zfill(width)}"
