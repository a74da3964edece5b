"""Rank MedPix diagnoses (task T3) from history, exam and findings, with and without the graph, label-free.

The case's own diagnosis field, discussion and keywords are never read. "Unseen" means that no other case of the parts
has the diagnosis. Intervals are paired bootstraps over cases.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kg import KnowledgeGraph, Linker
from kg.ranking import evidence_seeds
from kg.retrieval import (
    WITH_ENCODER,
    WITHOUT_ENCODER,
    CandidateRanker,
    build_candidates,
    embedding_scores,
    fuse_named,
    log_visits,
)
from pipelines.recipes.radiology_cases.cases import read_diagnoses

Embedder = Callable[[Sequence[str]], np.ndarray]
DEPTHS = (1, 10, 50)
RESAMPLES = 2000
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_BATCH = 32
# Fusions to compare, by what they may read; weights chosen on the train part, as those of `kg.retrieval` were.
_FUSIONS: dict[str, dict[str, float]] = {
    "without graph": {"embedding": 1.0, "names": 0.2},
    "without graph + walk": {"embedding": 1.0, "names": 0.2, "walk": 0.5},
    "with graph, no walk": {**WITH_ENCODER, "walk": 0.0},
    "with graph": WITH_ENCODER,
}
_FUSIONS_WITHOUT_ENCODER: dict[str, dict[str, float]] = {
    "without graph": {"names": 1.0},
    "without graph + walk": {"names": 1.0, "walk": 0.5},
    "with graph, no walk": {**WITHOUT_ENCODER, "walk": 0.0},
    "with graph": WITHOUT_ENCODER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingTask:
    """Texts (B), the position of each true candidate (B,), candidate names by key, and the subsets (B,) by name."""

    texts: tuple[str, ...]
    truth: np.ndarray
    names: Mapping[str, tuple[str, ...]]
    subsets: Mapping[str, np.ndarray]


def read_task(folder: Path, parts: Sequence[str] = ("train", "dev")) -> RankingTask:
    """Return task T3 of MedPix over the given parts.

    Raises:
        UsageError: `config.table` where `candidates.csv` cannot be read.
    """
    names = {one.key: one.names for one in read_diagnoses(folder)}
    cases = [
        json.loads(line) | {"part": part}
        for part in parts
        for line in (folder / f"cases_{part}.jsonl").read_text("utf-8").splitlines()
    ]
    cases = [case for case in cases if case["t3_eligible"]]
    position = {key: at for at, key in enumerate(names)}
    truth = np.array([position[case["dx_id"]] for case in cases])
    counts = Counter(truth.tolist())
    is_unnamed = np.array([not case["dx_named_in_text"] for case in cases])
    is_unseen = np.array([counts[one] == 1 for one in truth.tolist()])
    return RankingTask(
        texts=tuple("\n".join((case["history"], case["exam"], case["findings"])) for case in cases),
        truth=truth,
        names=names,
        subsets={
            "all": np.ones(len(cases), dtype=bool),
            "unnamed": is_unnamed,
            "unseen": is_unseen,
            "unnamed_unseen": is_unnamed & is_unseen,
            **{part: np.array([case["part"] == part for case in cases]) for part in parts},
        },
    )


def view_scores(graph: KnowledgeGraph, task: RankingTask, embed: Embedder | None) -> dict[str, np.ndarray]:
    """Return scores (B, n) by view: names, walk, sentences, embedding where `embed` is given, and their fusions.

    Controls: `popularity` ignores the case; `other case` walks from the evidence of the next case.
    """
    linker = Linker(graph)
    ranker = CandidateRanker(linker, build_candidates(linker, task.names))
    seeds = [evidence_seeds(graph, mentions) for mentions in linker.link_batch(task.texts)]
    walk = np.concatenate([_walk_batch(ranker, seeds[at : at + _BATCH]) for at in range(0, len(seeds), _BATCH)])
    views = {
        "names": np.stack([ranker.name_scores(text) for text in task.texts]),
        "walk": walk,
        "sentences": np.stack([ranker.sentence_scores(text) for text in task.texts]),
        "popularity": np.tile(ranker.scores_from(graph.arrays["popularity"]), (len(seeds), 1)),
        "other case": np.roll(walk, 1, axis=0),
    }
    if embed is not None:
        views["embedding"] = _embedding(task, embed)
    parts = views | {"walk": np.stack([log_visits(one) for one in walk])}
    for name, weights in (_FUSIONS if embed is not None else _FUSIONS_WITHOUT_ENCODER).items():
        views[name] = np.stack(
            [fuse_named({part: parts[part][at] for part in weights}, weights) for at in range(len(walk))]
        )
    return views


def _walk_batch(ranker: CandidateRanker, seeds: Sequence[Mapping[str, float]]) -> np.ndarray:
    return np.stack([ranker.scores_from(visits) for visits in ranker.graph.personalised_pagerank_batch(seeds)])


def _embedding(task: RankingTask, embed: Embedder) -> np.ndarray:
    """Cosine of the whole text with each name, averaged with that of the text's best sentence."""
    names = np.asarray(embed([texts[0] for texts in task.names.values()]))
    sentences = [[one for one in _SENTENCE.split(text) if len(one) > 8] or [text] for text in task.texts]
    flat = np.asarray(embed([one for group in sentences for one in group]))
    whole = np.asarray(embed(task.texts))
    bounds = np.cumsum([0, *(len(group) for group in sentences)])
    scores = []
    for at, vector in enumerate(whole):
        parts = np.stack([embedding_scores(one, names) for one in flat[bounds[at] : bounds[at + 1]]])
        scores.append((embedding_scores(vector, names) + parts.max(axis=0)) / 2)
    return np.stack(scores)


def true_ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return (B,) ranks of the true candidates; ties count as the middle of their places."""
    own = scores[np.arange(len(scores)), truth][:, None]
    return 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2


def measures(ranks: np.ndarray) -> dict[str, float]:
    """Return recall at each depth and the mean reciprocal rank."""
    return {f"R@{depth}": float((ranks <= depth).mean()) for depth in DEPTHS} | {"MRR": float((1 / ranks).mean())}


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


def paired_difference(ranks: np.ndarray, others: np.ndarray, depth: int, *, seed: int = 0) -> Difference:
    """Return the difference in recall at a depth, over the same cases resampled together."""
    gains = (ranks <= depth).astype(float) - (others <= depth)
    drawn = np.random.default_rng(seed).integers(0, len(gains), (RESAMPLES, len(gains)))
    low, high = np.quantile(gains[drawn].mean(axis=1), [0.025, 0.975])
    return Difference(float(gains.mean()), float(low), float(high))
