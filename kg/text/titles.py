"""A diagnosis written as a title ("Hip fracture due to fall (left)") to the concepts that mean it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kg.schema import CLOSE_MATCH, EXACT_MATCH
from kg.text.normalise import normalise

if TYPE_CHECKING:
    from kg.text.linker import Linker

_PARENTHESIS = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
_SPLIT = re.compile(
    r"\s*(?:[,;:/]|\s-\s|\.\s|\b(?:with|due to|secondary to|in|of the|from|causing|"
    r"resulting in|complicated by|status post|"
    r"s/p|associated with|and|vs\.?|versus|involving|presenting as)\b)\s*",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"^(?:(?:acute|chronic|bilateral|left|right|large|small|giant|recurrent|ruptured|early|late|severe|mild|multiple|"
    r"likely|probable|classic|incidental|isolated|congenital|primary|spontaneous|traumatic)\s+)+",
    re.IGNORECASE,
)
WEIGHT_EXACT, WEIGHT_VARIANT, WEIGHT_PART, WEIGHT_MATCH = 1.0, 0.9, 0.7, 0.9
TITLE_KINDS = ("disease", "phenotype", "finding", "code")


def title_concepts(linker: "Linker", names: Sequence[str]) -> dict[int, float]:
    """Return concepts (position -> weight) for a diagnosis given by one or more names; empty where nothing fits.

    Exact names weigh most, then the title without parentheses, side or stage, then its longest mention of a disease.
    The concepts that mean the same in other sources (`close_match`) come along.
    """
    graph = linker.graph
    found: dict[int, float] = {}
    for weight, forms in (
        (WEIGHT_EXACT, names),
        (WEIGHT_VARIANT, [form for name in names for form in _forms(name)]),
    ):
        for form in forms:
            if curie := linker.lookup_any(form, TITLE_KINDS):
                found.setdefault(graph.index(curie), weight)
    for concept in _longest_mentions(linker, names):
        found.setdefault(concept, WEIGHT_PART)
    for concept, weight in list(found.items()):
        for neighbor in graph.neighbors(concept):
            if neighbor.predicate in (EXACT_MATCH, CLOSE_MATCH):
                found.setdefault(neighbor.concept, weight * WEIGHT_MATCH)
    return found


def _forms(name: str) -> Iterator[str]:
    """Shorter readings of a title, the most faithful first."""
    inside = [part for pair in _PARENTHESIS.findall(name) for part in pair if part]
    bare = _PARENTHESIS.sub(" ", name).strip(" .")
    yield bare
    yield _LEADING.sub("", bare)
    parts = [part for part in _SPLIT.split(bare) if part]
    if parts:
        yield parts[0]
        yield _LEADING.sub("", parts[0])
    for part in inside:
        if len(part) > 3:
            yield part


def _longest_mentions(linker: "Linker", names: Iterable[str]) -> list[int]:
    graph = linker.graph
    best: dict[int, int] = {}
    for name in names:
        for mention in linker.link(name):
            concept = graph.index(mention.concept)
            if graph.kind(concept) in ("disease", "phenotype"):
                best[concept] = max(best.get(concept, 0), len(normalise(mention.text).tokens))
    longest = max(best.values(), default=0)
    return sorted(concept for concept, size in best.items() if size == longest)
