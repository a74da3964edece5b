"""Identity: which records of several sources are one concept, and which only mean nearly the same.

Same id, an xref that two sources share one to one, or the same normal name inside one kind make one concept. Two ids of
one authority are never merged, nor are concepts of different kinds: those are joined by a `close_match` relation.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from kg.schema import CLOSE_MATCH, EXACT_MATCH, ConceptRecord, RelationRecord, SourceTables, Synonym
from kg.strings import clean, clean_line
from kg.text.normalise import normal_name

# Which id stands for a merged concept; then alphabetical.
PREFIX_ORDER = (
    "MONDO",
    "DOID",
    "OMIM",
    "ORPHA",
    "DECIPHER",
    "HP",
    "UBERON",
    "SCT",
    "DCM",
    "MESH",
    "UMLS",
    "RSD",
    "MEDMM",
)
# Kinds whose concepts merge by equal name. Codes are one authority's each; genes have symbols, not names.
MERGED_BY_NAME = frozenset({"disease", "finding", "phenotype", "anatomy", "modality"})
# Prefixes of identifiers that we or a hospital made from names: several may fall into one concept.
MADE_FROM_NAMES = frozenset({"RSD", "LOCAL", "MEDMM"})
# Vocabularies whose codes are narrow enough that two concepts with one code mean nearly the same.
SHARED_XREFS = frozenset({"UMLS", "SCT", "MESH"})
# A name borne by more concepts than this is too generic to say that they are related.
MAX_CLOSE_GROUP = 8


@dataclass(slots=True)
class MergedConcept:
    """One concept after merging. `origin` is the index of the first source that names it."""

    id: str
    kind: str
    name: str
    origin: int
    synonyms: dict[str, tuple[Synonym, int]] = field(default_factory=dict)  # by case-folded text
    xrefs: dict[str, None] = field(default_factory=dict)
    texts: dict[str, None] = field(default_factory=dict)
    aliases: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Resolved:
    """Merged concepts by id, the representative of every known id, and the matches that were found."""

    concepts: dict[str, MergedConcept]
    representative: dict[str, str]
    matches: list[RelationRecord]
    defects: Counter[str]


def resolve(tables: list[SourceTables]) -> Resolved:
    """Merge the records of all sources. The order of `tables` must be fixed by the caller (sorted by name)."""
    defects: Counter[str] = Counter()
    records = _first_kind_wins(tables, defects)
    _add_mappings(tables, records, defects)
    groups = _Groups(records)
    _join_by_xref(records, groups, defects)
    _join_by_name(records, groups, defects)
    concepts, representative = _merge(records, groups)
    matches = _close_matches(concepts, representative)
    return Resolved(concepts=concepts, representative=representative, matches=matches, defects=defects)


def authority_rank(curie: str) -> tuple[int, str]:
    """Sort key: better authorities first."""
    prefix = curie.partition(":")[0]
    return (PREFIX_ORDER.index(prefix) if prefix in PREFIX_ORDER else len(PREFIX_ORDER), curie)


def _first_kind_wins(tables: list[SourceTables], defects: Counter[str]) -> dict[str, list[tuple[int, ConceptRecord]]]:
    records: dict[str, list[tuple[int, ConceptRecord]]] = {}
    for position, table in enumerate(tables):
        seen: set[str] = set()
        for record in sorted(map(_cleaned, table.concepts)):
            if not record.id or not record.name.strip():
                defects["concepts without id or name"] += 1
                continue
            if record.id in seen:
                defects["duplicate ids"] += 1
            seen.add(record.id)
            earlier = records.setdefault(record.id, [])
            if earlier and earlier[0][1].kind != record.kind:
                defects["ids with two kinds"] += 1
                continue
            earlier.append((position, record))
    return records


def _cleaned(record: ConceptRecord) -> ConceptRecord:
    """The record with readable characters only; nearly every record is so already and is returned as it is."""
    synonyms = record.synonyms
    is_clean = record.name.isprintable() and record.text.isprintable() and record.id.isprintable()
    if is_clean and all(text.isprintable() for text, _ in synonyms):
        return record
    return record._replace(
        id=clean_line(record.id),
        name=clean_line(record.name),
        text=clean(record.text),  # its lines are what compound findings are split by
        synonyms=tuple(Synonym(clean_line(text), scope) for text, scope in synonyms),
    )


def _add_mappings(
    tables: list[SourceTables], records: dict[str, list[tuple[int, ConceptRecord]]], defects: Counter[str]
) -> None:
    """Give known concepts the ids and labels that mapping sets state for them, as xrefs and exact synonyms."""
    for position, table in enumerate(tables):
        for subject, target, subject_name, target_name in sorted(set(table.mappings)):
            known = [
                pair for pair in ((subject, target, target_name), (target, subject, subject_name)) if pair[0] in records
            ]
            defects["mappings of unknown concepts"] += not known
            for own, other, label in known:
                first = records[own][0][1]
                synonyms = (Synonym(label),) if label.strip() else ()
                records[own].append((position, ConceptRecord(own, first.kind, first.name, synonyms, (other,))))


class _Groups:
    """Union-find over ids that refuses to join two ids of one authority."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.parent = {curie: curie for curie in ids}
        self.members: dict[str, tuple[str, ...]] = {curie: (curie,) for curie in self.parent}

    def root(self, curie: str) -> str:
        while (up := self.parent[curie]) != curie:
            self.parent[curie] = curie = self.parent[up]
        return curie

    def join(self, first: str, second: str) -> bool:
        a, b = sorted((self.root(first), self.root(second)), key=authority_rank)
        if a == b:
            return True
        prefixes = [_authority(curie) for curie in (*self.members[a], *self.members[b])]
        strict = [prefix for prefix in prefixes if prefix not in MADE_FROM_NAMES]
        if len(strict) != len(set(strict)):
            return False
        self.parent[b] = a
        self.members[a] += self.members.pop(b)
        return True


def _authority(curie: str) -> str:
    return curie.partition(":")[0]


def _join_by_xref(records: dict[str, list[tuple[int, ConceptRecord]]], groups: _Groups, defects: Counter[str]) -> None:
    """Join ids of one kind where each is the other's only xref of that authority."""
    forward: dict[tuple[str, str], set[str]] = defaultdict(set)
    for curie, group in records.items():
        for _, record in group:
            for xref in record.xrefs:
                if xref in records and records[xref][0][1].kind == record.kind:
                    forward[curie, _authority(xref)].add(xref)
                    forward[xref, _authority(curie)].add(curie)
    for (curie, authority), targets in sorted(forward.items()):
        if len(targets) == 1 and len(forward[(target := next(iter(targets))), _authority(curie)]) == 1:
            defects["xref joins refused (two ids of one authority)"] += not groups.join(curie, target)
        elif authority:
            defects["xrefs that are not one to one"] += 1


def _join_by_name(records: dict[str, list[tuple[int, ConceptRecord]]], groups: _Groups, defects: Counter[str]) -> None:
    """Join ids of one kind with the same normal name; then a name with the one other's exact synonym."""
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    synonyms: dict[tuple[str, str], set[str]] = defaultdict(set)
    for curie in sorted(records, key=authority_rank):
        for _, record in records[curie]:
            if record.kind not in MERGED_BY_NAME:
                continue
            names[record.kind, normal_name(record.name)].append(curie)
            if _authority(curie) not in MADE_FROM_NAMES:
                for text, scope in record.synonyms:
                    if scope == "exact":
                        synonyms[record.kind, normal_name(text)].add(curie)
    for group in names.values():
        for curie in group[1:]:
            defects["name joins refused (two ids of one authority)"] += not groups.join(group[0], curie)
    _join_mutual(records, groups, names)
    for key, group in names.items():
        targets = {groups.root(target) for target in synonyms.get(key, ())} - {groups.root(curie) for curie in group}
        if len(targets) == 1:
            groups.join(group[0], next(iter(targets)))


def _join_mutual(
    records: dict[str, list[tuple[int, ConceptRecord]]], groups: _Groups, names: dict[tuple[str, str], list[str]]
) -> None:
    """Join two ids of one kind where each gives the other's name as a synonym of any scope."""
    said: dict[str, set[str]] = defaultdict(set)
    for (kind, _), members in names.items():
        for curie in members:
            for _, record in records[curie]:
                for text, _ in record.synonyms:
                    said[curie].update(names.get((kind, normal_name(text)), ()))
    for curie in sorted(said, key=authority_rank):
        for other in sorted(said[curie], key=authority_rank):
            if curie in said.get(other, ()):
                groups.join(curie, other)


def _merge(
    records: dict[str, list[tuple[int, ConceptRecord]]], groups: _Groups
) -> tuple[dict[str, MergedConcept], dict[str, str]]:
    concepts: dict[str, MergedConcept] = {}
    representative: dict[str, str] = {}
    for root in sorted(groups.members):
        members = sorted(groups.members[root], key=authority_rank)
        position, first = records[members[0]][0]
        merged = MergedConcept(members[0], first.kind, first.name, position)
        for curie in members:
            representative[curie] = members[0]
            if curie != members[0]:
                merged.aliases[curie] = None
            for origin, record in records[curie]:
                _absorb(merged, origin, record)
        concepts[merged.id] = merged
    for merged in concepts.values():
        for alias in merged.aliases:
            representative.setdefault(alias, merged.id)
    return concepts, representative


def _absorb(merged: MergedConcept, origin: int, record: ConceptRecord) -> None:
    own = merged.name.casefold()
    for synonym in (Synonym(record.name), *record.synonyms):
        # Spellings that differ by case only are one synonym; an abbreviation keeps its case, which the linker needs.
        key = synonym.text if synonym.scope == "abbreviation" else synonym.text.casefold()
        if key != own:
            merged.synonyms.setdefault(key, (synonym, origin))
    merged.xrefs.update(dict.fromkeys(record.xrefs))
    merged.aliases.update(dict.fromkeys(alias for alias in record.aliases if alias != merged.id))
    if record.text:
        merged.texts[record.text] = None


def _close_matches(concepts: dict[str, MergedConcept], representative: dict[str, str]) -> list[RelationRecord]:
    """Relations between concepts of different kinds that share a name, and by xref where merging was refused."""
    by_name: dict[str, dict[str, str]] = defaultdict(dict)
    pairs: dict[tuple[str, str], str] = {}
    for curie, concept in concepts.items():
        texts = [concept.name, *(synonym.text for synonym, _ in concept.synonyms.values() if synonym.scope == "exact")]
        for text in texts:
            by_name[normal_name(text)][curie] = concept.kind
        for xref in concept.xrefs:
            target = representative.get(xref)
            if target is not None and target != curie:
                is_same_kind = concepts[target].kind == concept.kind
                first, second = sorted((curie, target))
                pairs[first, second] = EXACT_MATCH if is_same_kind else CLOSE_MATCH
    for group in (*by_name.values(), *_by_shared_xref(concepts).values()):
        if 1 < len(group) <= MAX_CLOSE_GROUP:
            ordered = sorted(group)
            for index, first in enumerate(ordered):
                for second in ordered[index + 1 :]:
                    if group[first] != group[second]:
                        pairs.setdefault((first, second), CLOSE_MATCH)
    return [RelationRecord(first, predicate, second) for (first, second), predicate in sorted(pairs.items())]


def _by_shared_xref(concepts: dict[str, MergedConcept]) -> dict[str, dict[str, str]]:
    """Concepts (id -> kind) that give the same code of a fine-grained vocabulary, by that code."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for curie, concept in concepts.items():
        for xref in concept.xrefs:
            if _authority(xref) in SHARED_XREFS:
                groups[xref][curie] = concept.kind
    return groups
