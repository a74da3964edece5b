"""How well the linker finds diseases (NCBI Disease corpus), reports' concepts (MedPix gold) and context (NegEx)."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kg import KnowledgeGraph, Linker, Mention
from kg.schema import ConceptRecord, Source, SourceTables, Synonym
from kg.text.context import context_of
from kg.text.normalise import normal_name
from pipelines.recipes.kg_evaluation.vocabulary import VocabularyMap

DISEASE_KINDS = ("disease", "phenotype", "finding", "code")
_COMPOSITE = re.compile(r"[|+]")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of right, wrong and missed answers, and what follows from them."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of answers that are right."""
        return self.right / max(self.right + self.wrong, 1)

    @property
    def recall(self) -> float:
        """Share of what should be found that is."""
        return self.right / max(self.right + self.missed, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / max(2 * self.right + self.wrong + self.missed, 1)


class GoldMention(NamedTuple):
    """A span of a document and the ids it means."""

    start: int
    end: int
    text: str
    ids: frozenset[str]


@dataclass(slots=True)
class Document:
    """Title and abstract with their annotated diseases."""

    key: str
    text: str
    mentions: list[GoldMention] = field(default_factory=list)


def read_pubtator(path: Path) -> list[Document]:
    """Return the documents of a PubTator file; ids become CURIEs (MESH:..., OMIM:...)."""
    documents: dict[str, Document] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if (parts := line.split("|", 2)) and len(parts) == 3 and parts[1] in ("t", "a"):
            document = documents.setdefault(parts[0], Document(parts[0], ""))
            document.text += parts[2] if parts[1] == "t" else f" {parts[2]}"
        elif line.count("\t") >= 5:
            key, start, end, text, _, ids = line.split("\t")[:6]
            curies = frozenset(_curie(one) for one in _COMPOSITE.split(ids.strip()) if one)
            documents[key].mentions.append(GoldMention(int(start), int(end), text, curies))
    return list(documents.values())


def _curie(identifier: str) -> str:
    if identifier.startswith(("MESH:", "OMIM:")):
        return identifier
    return f"MESH:{identifier}" if identifier[:1] in "DC" else f"OMIM:{identifier}"


def names_from(documents: list[Document], *, least_share: float = 0.6) -> SourceTables:
    """Return a source of the names that annotated documents use for each id: what a training part can teach a linker.

    A name is kept where `least_share` of its annotations agree on one id; abbreviations are left to the text itself.
    """
    votes: dict[str, Counter[frozenset[str]]] = defaultdict(Counter)
    for document in documents:
        for mention in document.mentions:
            if not mention.text.isupper() and len(mention.text) > 3:
                votes[normal_name(mention.text)][mention.ids] += 1
    names: dict[str, list[str]] = defaultdict(list)
    for name, counter in votes.items():
        ids, count = counter.most_common(1)[0]
        if len(ids) == 1 and count / counter.total() >= least_share:
            names[next(iter(ids))].append(name)
    tables = SourceTables(source=Source(name="annotated", version="1", licence="US public domain", trust=0.5))
    tables.concepts = [
        ConceptRecord(curie, "disease", texts[0], tuple(Synonym(text) for text in texts[1:]))
        for curie, texts in sorted(names.items())
    ]
    return tables


def disease_mentions(linker: Linker, text: str) -> list[Mention]:
    """Return the mentions of a text whose concept can be a disease: neither anatomy nor anything else."""
    graph = linker.graph
    return [mention for mention in linker.link(text) if graph.kind(graph.index(mention.concept)) in DISEASE_KINDS]


def ncbi_agreement(
    linker: Linker, documents: list[Document], vocabulary: VocabularyMap
) -> tuple[Agreement, Agreement, Counter[str]]:
    """Return (mention level, document level, coverage) of linking against the annotated ids.

    Mention level: same span and a shared id. Document level: sets of ids, as in DNorm (Leaman et al. 2013). A linked
    concept that no source maps to the vocabulary is no answer in it, and is counted under `coverage`.
    """
    graph = linker.graph
    mention_counts, document_counts, coverage = Counter[str](), Counter[str](), Counter[str]()
    reachable = {name for concept in range(graph.n_concepts) for name in vocabulary.ids(concept)}
    for document in documents:
        found = [
            (mention, vocabulary.ids(graph.index(mention.concept)))
            for mention in disease_mentions(linker, document.text)
        ]
        coverage["linked, not in vocabulary"] += sum(not ids for _, ids in found)
        answers = [(mention, ids) for mention, ids in found if ids]
        spans = {(mention.start, mention.end): ids for mention, ids in answers}
        hits = sum(bool(spans.get((gold.start, gold.end), frozenset()) & gold.ids) for gold in document.mentions)
        mention_counts.update(right=hits, wrong=len(answers) - hits, missed=len(document.mentions) - hits)
        wanted = frozenset().union(*(gold.ids for gold in document.mentions))
        coverage["gold ids"] += len(wanted)
        coverage["gold ids in no source"] += len(wanted - reachable)
        groups = {ids for _, ids in answers}
        right = {name for name in wanted if any(name in ids for ids in groups)}
        wrong = sum(not (ids & wanted) for ids in groups)
        document_counts.update(right=len(right), wrong=wrong, missed=len(wanted) - len(right))
    return _agreement(mention_counts), _agreement(document_counts), coverage


def _agreement(counts: Counter[str]) -> Agreement:
    return Agreement(counts["right"], counts["wrong"], counts["missed"])


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldLinks:
    """Outcome on hand-judged links: `wrong_links` are (mention, linked name) pairs for people to read."""

    exact_precision: float
    precision: float
    linked: int
    judged: int
    wrong_links: tuple[tuple[str, str], ...]


def gold_links(linker: Linker, rows: list[dict[str, str]]) -> GoldLinks:
    """Return the precision of links on judged spans, each linked alone.

    `exact_precision` counts spans for which the judge named an exact concept: right where the link is one of them (by
    id, merged id or name). `precision` counts every linked span: a link of a span judged NIL is wrong.
    """
    graph = linker.graph
    exact, all_links, wrong = Counter[bool](), Counter[bool](), []
    for row in rows:
        mentions = [one for one in linker.link(row["mention"]) if one.end - one.start >= len(row["mention"]) - 2]
        if not mentions:
            continue
        concept = graph.index(mentions[0].concept)
        is_right = row["relation"] != "NIL" and _is_gold(graph, concept, row)
        all_links[is_right] += 1
        if row["relation"] == "exact":
            exact[is_right] += 1
        if not is_right:
            wrong.append((row["mention"], f"{graph.name(concept)} ({graph.kind(concept)}), {row['relation']}"))
    return GoldLinks(
        exact_precision=exact[True] / max(exact.total(), 1),
        precision=all_links[True] / max(all_links.total(), 1),
        linked=all_links.total(),
        judged=len(rows),
        wrong_links=tuple(wrong),
    )


def _is_gold(graph: KnowledgeGraph, concept: int, row: dict[str, str]) -> bool:
    ids = set(row["gold_ids"].split("|"))
    names = {normal_name(name) for name in row["gold_names"].split("|")}
    known = set(graph.aliases(concept)) | set(graph.xrefs(concept))
    own = {normal_name(graph.name(concept)), *(normal_name(one.text) for one in graph.synonyms(concept))}
    return bool(known & ids or own & names)


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a tab-separated file without quoting."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


_NEGEX = {
    "negation": {"absent": "Negated"},
    "temporality": {"historical": "Historical", "hypothetical": "Not particular"},
    "experiencer": {"other": "Family member"},
}


def negex_agreement(rows: list[dict[str, str]]) -> dict[str, Agreement]:
    """Return the agreement on Negated, Historical, Not particular (hypothetical) and Family member.

    A condition that does not stand in its sentence as written is left out (10 of the development half's 1,197).
    """
    counts: dict[str, Counter[str]] = {label: Counter() for labels in _NEGEX.values() for label in labels.values()}
    for column, expected, answer in _judgements(rows):
        for label in _NEGEX[column].values():
            if label in (expected, answer):
                outcome = "right" if expected == answer else "wrong" if answer == label else "missed"
                counts[label][outcome] += 1
    return {label: _agreement(counter) for label, counter in counts.items()}


def _judgements(rows: list[dict[str, str]]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        start = row["sentence"].find(row["condition"].upper())
        if start < 0:
            continue
        context = context_of(row["sentence"], start, start + len(row["condition"]))
        yield "negation", row["negation"], _NEGEX["negation"].get(context.status, "Affirmed")
        yield "temporality", row["temporality"], _NEGEX["temporality"].get(context.temporality, "Recent")
        yield "experiencer", row["experiencer"], _NEGEX["experiencer"].get(context.experiencer, "Patient")
