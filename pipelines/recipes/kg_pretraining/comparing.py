"""Models side by side on the same test relations: measures, and paired differences, with bootstrap intervals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kg import GraphError, KnowledgeGraph
from pipelines.recipes.kg_pretraining.keeping import read_ranks
from pipelines.recipes.kg_pretraining.measures import HITS, reciprocal
from pipelines.recipes.kg_pretraining.splits import TARGETS
from pipelines.statistics.estimates import Estimate, bootstrap

POPULARITY = "popularity"
_METRICS = {"MRR": reciprocal} | {f"Hits@{k}": (lambda ranks, k=k: float((ranks <= k).mean())) for k in HITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Ranks (N, 2) by model, and which of the test relations `parts` names."""

    ranks: dict[str, np.ndarray]
    parts: dict[str, np.ndarray]


def read_compared(graph: KnowledgeGraph, folders: list[Path]) -> Compared:
    """Return the ranks of folders that `keep` wrote, and popularity's.

    Raises:
        GraphError: `kg.version` if the folders do not rank the same test relations.
    """
    tables = {folder.name: read_ranks(folder) for folder in folders}
    rows = next(iter(tables.values()))[:, 0].astype(np.int64)
    for name, table in tables.items():
        if not np.array_equal(table[:, 0], rows):
            raise GraphError(
                f"Expected ranks of the same test relations (got others in {name}).",
                remedy="Train all models on one graph with one seed.",
            )
    ranks = {name: table[:, 1:3] for name, table in tables.items()}
    ranks[POPULARITY] = next(iter(tables.values()))[:, 3:5]
    predicate = graph.arrays["predicate"][rows]
    parts = {"all": np.ones(len(rows), dtype=bool)}
    for name in TARGETS:
        parts[name.partition(":")[2]] = predicate == graph.predicates.index(name)
    return Compared(ranks=ranks, parts=parts)


def measure_rows(compared: Compared) -> Iterator[tuple[str, ...]]:
    """Yield (model, relation, n, each measure with its interval)."""
    for name, ranks in compared.ranks.items():
        for part, mask in compared.parts.items():
            found = (bootstrap(metric, ranks[mask]) for metric in _METRICS.values())
            cells = (f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found)
            yield (name, part, str(int(mask.sum())), *cells)


def difference_rows(compared: Compared) -> Iterator[tuple[str, ...]]:
    """Yield (which difference, relation, MRR and Hits@10 with intervals), to the first model and to popularity."""
    first, *others = (name for name in compared.ranks if name != POPULARITY)
    pairs = [(name, first) for name in others] + [(name, POPULARITY) for name in (first, *others)]
    for name, other in pairs:
        for part, mask in compared.parts.items():
            found = (
                _difference(metric, compared, name, other, mask) for metric in (_METRICS["MRR"], _METRICS["Hits@10"])
            )
            yield (f"{name} - {other}", part, *(f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for one in found))


def _difference(
    metric: Callable[[np.ndarray], float], compared: Compared, name: str, other: str, mask: np.ndarray
) -> Estimate:
    return bootstrap(lambda a, b: metric(a) - metric(b), compared.ranks[name][mask], compared.ranks[other][mask])
