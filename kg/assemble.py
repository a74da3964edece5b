"""From merged records to columns: sorted concepts, relations in CSR order both ways, the walk matrix, popularity."""

import hashlib
import json
from collections import Counter

import numpy as np

from kg.graph import GraphHeader, KnowledgeGraph
from kg.resolve import MergedConcept
from kg.schema import KINDS, OTHER_PREDICATE_FLOW, PREDICATES, SCOPES, RelationRecord, Source
from kg.strings import StringTable

POPULARITY_STEPS = 30
POPULARITY_ALPHA = 0.15
# The columns that one relation consists of.
CHANGEABLE = ("subject", "object", "predicate", "relation_source", "weight", "polarity")


def assemble(
    concepts: dict[str, MergedConcept],
    relations: list[tuple[RelationRecord, int]],
    sources: list[Source],
    *,
    builder: str,
    defects: Counter[str],
) -> KnowledgeGraph:
    """Return a graph. Ends of relations are ids in `concepts`; each relation carries the index of its source.

    Concepts are ordered by id and relations by (subject, predicate, object, source), so equal input gives equal bytes.
    """
    ids = sorted(concepts)
    position = {curie: index for index, curie in enumerate(ids)}
    predicates = _predicate_order(relations)
    arrays = _concept_columns([concepts[curie] for curie in ids], position)
    arrays |= _relation_columns(relations, position, predicates, len(ids))
    flow = [PREDICATES.get(name, OTHER_PREDICATE_FLOW) for name in predicates]
    arrays |= walk_columns(arrays, np.array(flow, dtype=np.float32), [source.trust for source in sources], len(ids))
    header = GraphHeader(
        builder=builder,
        kinds=tuple(KINDS),
        predicates=tuple(predicates),
        sources=tuple(sources),
        defects=dict(sorted(defects.items())),
    )
    return KnowledgeGraph(arrays=arrays, header=header, content_hash=content_hash(arrays, header))


def content_hash(arrays: dict[str, np.ndarray], header: GraphHeader) -> str:
    """Return SHA-256 over what the graph says: vocabulary, names of sources, columns.

    Versions of sources and builder are left out: where a newer one says the same, models of the older one stay valid.
    """
    said = [header.kinds, header.predicates, [source.name for source in header.sources]]
    digest = hashlib.sha256(json.dumps(said).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _predicate_order(relations: list[tuple[RelationRecord, int]]) -> list[str]:
    extra = {record.predicate for record, _ in relations} - PREDICATES.keys()
    return [*PREDICATES, *sorted(extra)]


def _concept_columns(concepts: list[MergedConcept], position: dict[str, int]) -> dict[str, np.ndarray]:
    kinds = {kind: index for index, kind in enumerate(KINDS)}
    synonyms = [
        (index, synonym.text, SCOPES.index(synonym.scope), origin)
        for index, concept in enumerate(concepts)
        for synonym, origin in concept.synonyms.values()
    ]
    xrefs = [(index, xref) for index, concept in enumerate(concepts) for xref in concept.xrefs]
    keys = dict(position)
    for index, concept in enumerate(concepts):
        for alias in concept.aliases:
            keys.setdefault(alias, index)
    ordered = sorted(keys, key=str.encode)
    columns = {
        "kind": np.array([kinds[concept.kind] for concept in concepts], dtype=np.uint8),
        "origin": np.array([concept.origin for concept in concepts], dtype=np.uint8),
        "synonym_indptr": _indptr([entry[0] for entry in synonyms], len(concepts)),
        "synonym_scope": np.array([entry[2] for entry in synonyms], dtype=np.uint8),
        "synonym_source": np.array([entry[3] for entry in synonyms], dtype=np.uint8),
        "xref_indptr": _indptr([entry[0] for entry in xrefs], len(concepts)),
        "key_concept": np.array([keys[key] for key in ordered], dtype=np.int32),
    }
    columns |= _strings("id", [concept.id for concept in concepts])
    columns |= _strings("name", [concept.name for concept in concepts])
    columns |= _strings("text", ["\n".join(concept.texts) for concept in concepts])
    columns |= _strings("synonym", [entry[1] for entry in synonyms])
    columns |= _strings("xref", [entry[1] for entry in xrefs])
    columns |= _strings("key", ordered)
    return columns


def _strings(name: str, texts: list[str]) -> dict[str, np.ndarray]:
    table = StringTable.pack(texts)
    return {f"{name}_offsets": table.offsets, f"{name}_data": table.data}


def _indptr(owners: "list[int] | np.ndarray", count: int) -> np.ndarray:
    """Return (count + 1,) row pointers for entries that are, or will be, sorted by owner."""
    indptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(np.asarray(owners, dtype=np.int64), minlength=count), out=indptr[1:])
    return indptr


def _relation_columns(
    relations: list[tuple[RelationRecord, int]], position: dict[str, int], predicates: list[str], count: int
) -> dict[str, np.ndarray]:
    relation_id = {name: index for index, name in enumerate(predicates)}
    subject = np.array([position[record.subject] for record, _ in relations], dtype=np.int32)
    target = np.array([position[record.object] for record, _ in relations], dtype=np.int32)
    predicate = np.array([relation_id[record.predicate] for record, _ in relations], dtype=np.uint8)
    source = np.array([origin for _, origin in relations], dtype=np.uint8)
    columns: dict[str, np.ndarray] = {
        "subject": subject,
        "object": target,
        "predicate": predicate,
        "relation_source": source,
        "weight": np.array([record.weight for record, _ in relations], dtype=np.float32),
        "polarity": np.array([record.polarity for record, _ in relations], dtype=np.int8),
    }
    return relation_order(columns, count)


def relation_order(columns: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Return relation columns sorted by (subject, predicate, object, source), with row pointers both ways."""
    order = np.lexsort(tuple(columns[name] for name in ("relation_source", "object", "predicate", "subject")))
    ordered = {name: column[order] for name, column in columns.items()}
    ordered["forward_indptr"] = _indptr(ordered["subject"], count)
    ordered["backward_rows"] = np.argsort(ordered["object"], kind="stable").astype(np.int32)
    ordered["backward_indptr"] = _indptr(ordered["object"], count)
    return ordered


def walk_columns(
    arrays: dict[str, np.ndarray], flow: np.ndarray, trust: list[float], count: int
) -> dict[str, np.ndarray]:
    """Return the walk matrix (CSR, entry [j, i] = chance to step from i to j) and popularity (its stationary mass).

    An edge is walked both ways with weight x trust of its source x flow of its predicate; denied edges are not walked.
    """
    from scipy import sparse

    strength = (
        arrays["weight"]
        * np.array(trust, dtype=np.float32)[arrays["relation_source"]]
        * flow[arrays["predicate"]]
        * (arrays["polarity"] > 0)
    )
    used = strength > 0
    ends = np.concatenate([arrays["subject"][used], arrays["object"][used]])
    others = np.concatenate([arrays["object"][used], arrays["subject"][used]])
    matrix = sparse.csr_array((np.tile(strength[used], 2), (others, ends)), shape=(count, count), dtype=np.float32)
    matrix.sum_duplicates()
    out = np.asarray(matrix.sum(axis=0), dtype=np.float32)
    matrix.data /= out[matrix.indices]
    matrix.sort_indices()
    popularity = np.full(count, 1 / max(count, 1), dtype=np.float32)
    start = popularity.copy()
    for _ in range(POPULARITY_STEPS):
        popularity = POPULARITY_ALPHA * start + (1 - POPULARITY_ALPHA) * (matrix @ popularity)
    return {
        "walk_indptr": matrix.indptr.astype(np.int32),
        "walk_indices": matrix.indices.astype(np.int32),
        "walk_data": matrix.data.astype(np.float32),
        "popularity": popularity.astype(np.float32),
    }
