"""A user's OBO file as a source. The parser itself is in `kg.sources.obo`."""

from collections import defaultdict
from pathlib import Path

from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Source, SourceTables
from kg.sources.fingerprints import file_fingerprint
from kg.sources.obo import header_version, read_terms
from kg.sources.opening import lines_of
from kg.sources.prefixes import curie_of, kind_of_prefix, predicate_of


def read_obo(path: Path) -> SourceTables:
    """Return the terms of an OBO file with synonyms, xrefs, parents and relationships."""
    version = header_version(lines_of(path))
    terms = list(read_terms(lines_of(path)))
    source = Source(
        name=path.name.split(".")[0].lower(),
        version=version or "unknown",
        licence="as stated by the file's origin",
        fingerprint=file_fingerprint(path),
    )
    tables = SourceTables(source=source)
    replaced: dict[str, list[str]] = defaultdict(list)
    for term in terms:
        if term.is_obsolete and term.replaced_by:
            replaced[curie_of(term.replaced_by)].append(curie_of(term.id))
    for term in terms:
        if term.is_obsolete:
            tables.defects["obsolete terms"] += 1
            continue
        curie = curie_of(term.id)
        aliases = (*(curie_of(one) for one in term.alternatives), *replaced.get(curie, ()))
        xrefs = tuple(dict.fromkeys(curie_of(xref) for xref in term.xrefs))
        tables.concepts.append(
            ConceptRecord(
                curie, kind_of_prefix(curie), term.name, tuple(term.synonyms), xrefs, term.definition, aliases
            )
        )
        tables.relations += [RelationRecord(curie, SUBCLASS_OF, curie_of(parent)) for parent in term.parents]
        tables.relations += [
            RelationRecord(curie, predicate_of(relation), curie_of(target)) for relation, target in term.relationships
        ]
    return tables
