"""OWL ontologies in RDF/XML, through the library `pronto` (extra `owl`)."""

import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from kg.errors import SourceError
from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Scope, Source, SourceTables, Synonym
from kg.sources.fingerprints import file_fingerprint
from kg.sources.prefixes import curie_of, kind_of_prefix, predicate_of
from kg.xml_guard import refuse_doctype

if TYPE_CHECKING:
    import pronto

_SCOPES: dict[str, Scope] = {"EXACT": "exact", "NARROW": "narrow", "BROAD": "broad", "RELATED": "related"}


def read_owl(path: Path) -> SourceTables:
    """Return the classes of an OWL file with synonyms, xrefs, parents, relations and the ids that they replace.

    Relations are the existential restrictions of a class (has location some lung). Imports are never followed.

    Raises:
        SourceError: `kg.unsafe_xml` for a DOCTYPE or entities; `kg.load` if it is not RDF/XML or `pronto` is missing.
    """
    refuse_doctype(path)
    try:
        import pronto
    except ImportError as error:
        raise SourceError(
            "Expected the package pronto for OWL files (not installed).", remedy="pip install 'medmm[owl]'"
        ) from error
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")  # pronto warns about every construct that it does not map
            ontology = pronto.Ontology(stream, import_depth=0, threads=1)
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise SourceError(f"Expected OWL in RDF/XML in {path.name} ({type(error).__name__}).") from error
    source = Source(
        name=path.name.split(".")[0].lower(),
        version=ontology.metadata.data_version or "unknown",
        licence="as stated by the file's origin",
        fingerprint=file_fingerprint(path),
    )
    tables = SourceTables(source=source)
    replaced = _replaced(ontology)
    for term in ontology.terms():
        if term.obsolete:
            tables.defects["obsolete terms"] += 1
            continue
        curie = curie_of(term.id)
        tables.concepts.append(
            ConceptRecord(
                curie,
                kind_of_prefix(curie),
                term.name or "",
                tuple(
                    sorted(Synonym(one.description, _SCOPES.get(one.scope or "", "related")) for one in term.synonyms)
                ),
                tuple(sorted({curie_of(xref.id) for xref in term.xrefs})),
                str(term.definition or ""),
                tuple(sorted({*(curie_of(one) for one in term.alternate_ids), *replaced.get(curie, ())})),
            )
        )
        tables.relations += [
            RelationRecord(curie, SUBCLASS_OF, curie_of(parent.id))
            for parent in term.superclasses(distance=1, with_self=False)
        ]
        tables.relations += sorted(
            RelationRecord(curie, predicate_of(relation.id), curie_of(target.id))
            for relation, targets in term.relationships.items()
            for target in targets
        )
    return tables


def _replaced(ontology: "pronto.Ontology") -> dict[str, list[str]]:
    """Ids of obsolete classes, by the living one that replaces them."""
    found: dict[str, list[str]] = defaultdict(list)
    for term in ontology.terms():
        if term.obsolete:
            for one in term.replaced_by:
                found[curie_of(one.id)].append(curie_of(term.id))
    return found
