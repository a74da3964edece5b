"""Build a graph from sources: read, merge, split compounds, check, turn into columns."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from kg.assemble import assemble
from kg.cache import cache_folder, cached_graph
from kg.collector import collector_paused
from kg.decompose import split_compounds
from kg.errors import SourceError
from kg.graph import KnowledgeGraph
from kg.quality import check_relations
from kg.resolve import Resolved, resolve
from kg.schema import RelationRecord, Source, SourceTables
from kg.sources.registry import DEFAULT_SOURCES, INSTALLED_SOURCES
from kg.text.normalise import normal_name

logger = logging.getLogger(__name__)

# Raised whenever the same sources would give another graph, so that cached files of older builders are not used.
BUILDER_VERSION = "7"
DERIVED = "medmm"
_NEAR = 0.5  # how alike a mistyped name must be to be offered


def build(sources: Sequence[str | os.PathLike[str] | SourceTables] = DEFAULT_SOURCES) -> KnowledgeGraph:
    """Return a graph of the given sources: names of installed ones, paths of files, or records already read.

    The order of `sources` does not matter: the same sources give the same graph, bit for bit.

    Raises:
        SourceError: If no source is given, or one is unknown, missing, damaged or unsafe.
    """
    if not sources:
        raise SourceError(
            "Expected at least one source (got none).", remedy=f"Name one or more of {', '.join(INSTALLED_SOURCES)}."
        )
    with collector_paused():
        return build_from_tables([_read(source) for source in sources])


def load_default(cache_dir: str | os.PathLike[str] | None = None) -> KnowledgeGraph:
    """Return the graph of the installed default sources, from the cache where possible. Needs no network.

    Args:
        cache_dir: Folder for the built file; by default the user's cache folder (variable MEDMM_CACHE).
    """
    return _load_cached(cache_folder(cache_dir))


@lru_cache(maxsize=4)
def _load_cached(folder: Path) -> KnowledgeGraph:
    key = source_key(DEFAULT_SOURCES)
    return cached_graph(key, build, folder)


def source_key(names: Sequence[str]) -> str:
    """Return a hash of installed sources and builder version: the name of the cached file."""
    parts = [f"{name}={INSTALLED_SOURCES[name].fingerprint()}" for name in sorted(names)]
    return hashlib.sha256("|".join([BUILDER_VERSION, *parts]).encode()).hexdigest()


def build_from_tables(tables: Sequence[SourceTables]) -> KnowledgeGraph:
    """Return the graph of records already read; two sources of one name are refused."""
    ordered = sorted(tables, key=lambda table: (table.source.name, table.source.version))
    names = [table.source.name for table in ordered]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(
            f"Expected sources with different names (got {twice!r} twice).",
            remedy="Name it once; a file's source is named for the file, so rename a file that is called like another.",
        )
    resolved = resolve(ordered)
    defects = Counter(resolved.defects)
    for table in ordered:
        defects.update(table.defects)
    derived = Source(
        name=DERIVED,
        version=BUILDER_VERSION,
        licence="Apache-2.0",
        trust=0.7,
        knowledge_level="logical_entailment",
        agent_type="automated_agent",
        citation="names matched and compound findings split by medmm",
    )
    relations = _claims(ordered, resolved)
    derived_index = len(ordered)
    texts = {
        curie: _texts(resolved, curie) for curie, one in resolved.concepts.items() if one.kind in ("finding", "disease")
    }
    parts = split_compounds(resolved.concepts, texts)
    stated = {(record.subject, record.predicate, record.object) for record, _ in relations}
    relations += [
        (record, derived_index)
        for record in (*resolved.matches, *parts)
        if (record.subject, record.predicate, record.object) not in stated
    ]
    kept = check_relations(relations, resolved, defects)
    normal_name.cache_clear()  # a build normalises every name several times; nothing else needs them all
    return assemble(
        resolved.concepts,
        kept,
        [*(table.source for table in ordered), derived],
        builder=BUILDER_VERSION,
        defects=+defects,
    )


def _read(source: str | os.PathLike[str] | SourceTables) -> SourceTables:
    if isinstance(source, SourceTables):
        return source
    if isinstance(source, str) and source in INSTALLED_SOURCES:
        logger.info("Reading the installed source %s", source)
        return INSTALLED_SOURCES[source].read()
    path = Path(source)
    if not path.exists() and not path.suffix and path.name == os.fspath(source):
        near = get_close_matches(path.name.lower(), INSTALLED_SOURCES, 1, _NEAR)
        raise SourceError(
            f"Expected an installed source or a knowledge file (got {path.name!r}, which is neither).",
            remedy=f"{f'Did you mean {near[0]}? ' if near else ''}Installed: {', '.join(INSTALLED_SOURCES)}.",
        )
    from kg.sources.files import read_file

    return read_file(path)


def _claims(tables: Sequence[SourceTables], resolved: Resolved) -> list[tuple[RelationRecord, int]]:
    """Relations with their ends replaced by the concepts that stand for them; unknown ends stay as they are."""
    stands_for = resolved.representative
    claims: list[tuple[RelationRecord, int]] = []
    for index, table in enumerate(tables):
        for record in table.relations:
            subject = stands_for.get(record.subject, record.subject)
            target = stands_for.get(record.object, record.object)
            if subject != record.subject or target != record.object:
                claims.append((record._replace(subject=subject, object=target), index))
            else:
                claims.append((record, index))
    return claims


def _texts(resolved: Resolved, curie: str) -> list[str]:
    concept = resolved.concepts[curie]
    return [concept.name, *(line for text in concept.texts for line in text.split("\n"))]
