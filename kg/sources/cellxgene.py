"""Ontologies as `cellxgene-ontology-guide` packs them: term id -> label, synonyms, ancestors with their distance.

The newest version that the wheel holds is read in place; the package itself is not imported. Its files carry no xrefs.
"""

import io
import json
from importlib import metadata
from pathlib import Path

from kg.errors import SourceError
from kg.schema import ConceptRecord, RelationRecord, Source, SourceTables, Synonym
from kg.sources.installed import installed_files, installed_fingerprint

DISTRIBUTION = "cellxgene-ontology-guide"


def newest_file(ontology: str) -> str:
    """Return the name, inside the wheel, of an ontology's newest version: versions are dates and sort as text."""
    pattern = f"cellxgene_ontology_guide/data/{ontology}-ontology-*.json.zst"
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise SourceError(
            f"Expected the package {DISTRIBUTION} to be installed (it is not).", remedy="pip install 'medmm[mondo]'"
        ) from None
    found = sorted(str(file) for file in files if file.match(pattern))
    if not found:
        raise SourceError(
            f"Expected {ontology} in the installed package {DISTRIBUTION} (not there).",
            remedy="pip install 'medmm[mondo]'",
        )
    return found[-1]


def fingerprint_of(ontology: str) -> str:
    """Return the identity of an ontology's newest file."""
    return installed_fingerprint(DISTRIBUTION, (newest_file(ontology),))


def version_of(ontology: str) -> str:
    """Return the release date of an ontology's newest file."""
    return Path(newest_file(ontology)).name.partition("-ontology-v")[2].removesuffix(".json.zst")


def read_terms(
    ontology: str, source: Source, *, kind: str, parent: str, without: frozenset[str] = frozenset()
) -> SourceTables:
    """Return an ontology's terms as concepts of one kind, with relations named `parent` to their next ancestors.

    Obsolete terms become further ids of the term that replaces them; the branches below `without` are left out.

    Raises:
        SourceError: If the package or its file is missing or damaged.
    """
    import zstandard

    name = newest_file(ontology)
    path = installed_files(DISTRIBUTION, (name,))[name]
    try:
        with path.open("rb") as stream:
            terms = json.load(io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(stream), encoding="utf-8"))
    except (zstandard.ZstdError, ValueError) as error:
        raise SourceError(
            f"Expected whole JSON in {path.name} of {DISTRIBUTION} ({type(error).__name__}).",
            remedy=f"Reinstall it: pip install --force-reinstall {DISTRIBUTION}",
        ) from error
    tables = SourceTables(source=source)
    replaced: dict[str, list[str]] = {}
    for curie, term in terms.items():
        if term["deprecated"]:
            tables.defects["obsolete terms"] += 1
            if successor := term.get("replaced_by"):
                replaced.setdefault(successor, []).append(curie)
    for curie, term in terms.items():
        if term["deprecated"]:
            continue
        if curie in without or not without.isdisjoint(term["ancestors"]):
            tables.defects["terms of branches left out"] += 1
            continue
        synonyms = tuple(Synonym(text) for text in term.get("synonyms", ()))
        text, others = term.get("description", ""), tuple(replaced.get(curie, ()))
        tables.concepts.append(ConceptRecord(curie, kind, term["label"], synonyms, (), text, others))
        tables.relations += [
            RelationRecord(curie, parent, ancestor) for ancestor, distance in term["ancestors"].items() if distance == 1
        ]
    return tables
