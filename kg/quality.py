"""What is wrong with a graph's relations, counted by reason, and left out where it would break a search."""

import logging
from collections import Counter, defaultdict

from kg.resolve import Resolved
from kg.schema import SUBCLASS_OF, RelationRecord

logger = logging.getLogger(__name__)

Claim = tuple[RelationRecord, int]


def check_relations(claims: list[Claim], resolved: Resolved, defects: Counter[str]) -> list[Claim]:
    """Return the usable claims, each once a source; count dangling ends, self loops, duplicates and is_a cycles.

    Cycles stay in the graph (searches are cycle-safe) and are counted as concepts that are their own ancestor.
    """
    best: dict[tuple[str, str, str, int], Claim] = {}
    for record, source in claims:
        if record.subject not in resolved.concepts or record.object not in resolved.concepts:
            defects["dangling relations"] += 1
        elif record.subject == record.object:
            defects["self loops"] += 1
        else:
            key = (record.subject, record.predicate, record.object, source)
            known = best.get(key)
            if known is None:
                best[key] = (record, source)
            else:
                defects["duplicate relations"] += 1
                if (record.polarity, record.weight) > (known[0].polarity, known[0].weight):
                    best[key] = (record, source)
    kept = list(best.values())
    if cyclic := len(cyclic_concepts(kept)):
        defects["concepts in is_a cycles"] += cyclic
    for reason in ("dangling relations", "duplicate ids", "concepts in is_a cycles", "ids with two kinds"):
        if defects[reason]:
            logger.warning("Knowledge graph: %d %s", defects[reason], reason)
    return kept


def cyclic_concepts(claims: list[Claim]) -> set[str]:
    """Return the concepts that are their own ancestor, or lie between such ones, by `subclass_of`.

    Peels concepts without parents, then those without children (Kahn's topological sort); what is left is cyclic.
    """
    up: dict[str, set[str]] = defaultdict(set)
    down: dict[str, set[str]] = defaultdict(set)
    for record, _ in claims:
        if record.predicate == SUBCLASS_OF:
            up[record.subject].add(record.object)
            down[record.object].add(record.subject)
    left = set(up) | set(down)
    for outgoing, incoming in ((up, down), (down, up)):
        open_ends = [concept for concept in left if not outgoing[concept]]
        while open_ends:
            concept = open_ends.pop()
            left.discard(concept)
            for other in incoming[concept]:
                outgoing[other].discard(concept)
                if not outgoing[other] and other in left:
                    open_ends.append(other)
    return left
