"""OWL ontologies in RDF/XML, through the library `pronto` (extra `owl`)."""

import warnings
from pathlib import Path

from kg.errors import SourceError
from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Scope, Source, SourceTables, Synonym
from kg.sources.fingerprints import file_fingerprint
from kg.sources.prefixes import curie_of, kind_of_prefix
from kg.xml_guard import refuse_doctype

_SCOPES: dict[str, Scope] = {"EXACT": "exact", "NARROW": "narrow", "BROAD": "broad", "RELATED": "related"}


def read_owl(path: Path) -> SourceTables:
    """Return the classes of an OWL file with synonyms, xrefs and parents. Imports are never followed.

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
                tuple(sorted(curie_of(one) for one in term.alternate_ids)),
            )
        )
        tables.relations += [
            RelationRecord(curie, SUBCLASS_OF, curie_of(parent.id))
            for parent in term.superclasses(distance=1, with_self=False)
        ]
    return tables
