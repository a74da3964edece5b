"""The test of evidence paths: cut them out of the graph, and hold that against cutting random paths of like degree."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from kg import KnowledgeGraph
from medmm.config import TaskSpec
from medmm.explain.removal import chances_of, without_relations
from medmm.inputs import CaseReader, CaseView
from medmm.results import NOTICEABLE, EvidencePath, ExplanationCheck

N_RANDOM = 5
NEAREST = 5  # neighbours of the nearest degree that a random path chooses from

Steps = tuple[int, ...]


def check_paths(
    reader: CaseReader,
    view: CaseView,
    task: TaskSpec,
    target: int,
    paths: Sequence[EvidencePath],
    rng: np.random.Generator,
) -> list[ExplanationCheck]:
    """Return the test; none where there is no path, or no other way to go for a random one."""
    graph = reader.graph
    if not paths or graph is None:
        return []
    real = [steps_of(path, graph) for path in paths]
    taken = {frozenset(pair) for steps in real for pair in pairwise(steps)}
    full = float(chances_of(reader, view.features, task)[target])

    def fall(chosen: Sequence[Steps]) -> float:
        pairs = {frozenset(pair) for steps in chosen for pair in pairwise(steps)}
        return full - float(chances_of(reader, without_relations(reader, view, pairs), task)[target])

    draws = [[random_path(graph, steps, taken, rng) for steps in real] for _ in range(N_RANDOM)]
    usable = [[steps for steps in draw if steps] for draw in draws]
    if not all(usable):
        return []
    own, at_random = fall(real), float(np.mean([fall(draw) for draw in usable]))
    return [
        ExplanationCheck(
            name="path deletion",
            value=own,
            reference=at_random,
            is_passed=own - at_random >= NOTICEABLE,
            sentence=f"Without the relations of the listed paths the probability changes by {-own:+.3f}, "
            f"without random paths from the same evidence through concepts of like degree by {-at_random:+.3f}.",
        )
    ]


def steps_of(path: EvidencePath, graph: KnowledgeGraph) -> Steps:
    """Concepts of a path as positions in the graph, from the evidence to the answer."""
    ends = [(hop.subject, hop.object) if hop.is_forward else (hop.object, hop.subject) for hop in path.hops]
    return tuple(graph.index(name) for name in (ends[0][0], *(end for _, end in ends)))


def random_path(graph: KnowledgeGraph, steps: Steps, taken: set[frozenset[int]], rng: np.random.Generator) -> Steps:
    """A path from the same start, as long, through concepts of about the same degrees, over none of `taken`.

    Shorter, or empty, where there is no other way to go.
    """
    found = [steps[0]]
    for wanted in steps[1:]:
        around = {neighbor.concept for neighbor in graph.neighbors(found[-1])}
        options = sorted(
            concept
            for concept in around
            if concept != steps[-1] and concept not in found and frozenset((found[-1], concept)) not in taken
        )
        if not options:
            break
        gaps = np.abs(np.log(graph.degrees[options] + 1.0) - np.log(graph.degrees[wanted] + 1.0))
        nearest = np.argsort(gaps, kind="stable")[:NEAREST]
        found.append(options[int(rng.choice(nearest))])
    return tuple(found) if len(found) > 1 else ()
