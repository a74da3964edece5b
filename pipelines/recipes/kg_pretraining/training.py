"""Train on sampled neighbourhoods, test with the filtered ranking protocol over all concepts."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kg import KnowledgeGraph
from kg.schema import KINDS, PREDICATES
from medmm.encoders.names import name_vectors
from pipelines.recipes.kg_pretraining.model import FreeVectors, Layer, LinkPredictor
from pipelines.recipes.kg_pretraining.splits import LinkSplit, split_relations

OTHER = len(PREDICATES)
HITS = (1, 3, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """Sizes and seeds. `fan_out` neighbours are drawn at each hop; `n_random` concepts join as extra negatives."""

    layer: Layer = "gatv2"
    width: int = 64
    steps: int = 300
    batch: int = 256
    n_random: int = 256
    fan_out: tuple[int, ...] = (6, 3)
    learning_rate: float = 3e-3
    n_tested: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainResult:
    """The trained model, states of all concepts (V, H) float32, and filtered measures on test by name."""

    model: LinkPredictor
    embeddings: np.ndarray
    test: dict[str, float] = field(default_factory=dict)
    popularity: dict[str, float] = field(default_factory=dict)
    losses: tuple[float, ...] = ()


def pretrain(
    graph: KnowledgeGraph,
    settings: PretrainSettings,
    *,
    on_step: Callable[[int, float], None] | None = None,
) -> PretrainResult:
    """Train a link predictor and return it with full-graph embeddings and test measures."""
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    split = split_relations(graph, seed=settings.seed)
    sampler = _Sampler(graph, split, settings, generator)
    model: LinkPredictor
    if settings.layer == "distmult":
        model = FreeVectors(settings.width, graph.n_concepts)
    else:
        model = LinkPredictor(settings.width, settings.layer)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=settings.steps)
    losses = []
    for step in range(settings.steps):
        loss = _batch_loss(model, sampler)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(step, losses[-1])
    embeddings = full_graph_states(model, sampler)
    rows = generator.permutation(split.test)[: settings.n_tested]
    return PretrainResult(
        model=model,
        embeddings=embeddings,
        test=filtered_measures(graph, rows, _model_scorer(model, sampler, embeddings)),
        popularity=filtered_measures(graph, rows, _popularity_scorer(graph, split)),
        losses=tuple(losses),
    )


class _Sampler:
    """Features of all concepts, message relations in both directions, and batches of neighbourhoods."""

    def __init__(
        self, graph: KnowledgeGraph, split: LinkSplit, settings: PretrainSettings, generator: np.random.Generator
    ) -> None:
        arrays = graph.arrays
        self.graph, self.split, self.settings, self.generator = graph, split, settings, generator
        codes = {name: at for at, name in enumerate(PREDICATES)}
        self.relation_of = np.array([codes.get(name, OTHER) for name in graph.predicates], dtype=np.int64)
        rows = split.messages
        forward = self.relation_of[arrays["predicate"][rows]]
        self.source = np.concatenate([arrays["subject"][rows], arrays["object"][rows]]).astype(np.int64)
        target = np.concatenate([arrays["object"][rows], arrays["subject"][rows]]).astype(np.int64)
        order = np.argsort(target, kind="stable")
        self.source, self.target = self.source[order], target[order]
        self.relation = np.concatenate([forward, forward + OTHER + 1])[order]
        self.indptr = np.searchsorted(self.target, np.arange(graph.n_concepts + 1))
        self.features = (
            np.arange(graph.n_concepts, dtype=np.int64)[:, None] if settings.layer == "distmult" else _features(graph)
        )

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return target rows and the random concepts that serve as extra negatives."""
        rows = self.generator.choice(self.split.train, self.settings.batch)
        return rows, self.generator.integers(0, self.graph.n_concepts, self.settings.n_random)

    def neighbourhood(self, seeds: np.ndarray, hidden: set[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return (concepts, edge positions) within reach of the seeds; `hidden` pair keys are not passed along."""
        reached, frontier, edges = [seeds], seeds, []
        for count in self.settings.fan_out:
            degree = self.indptr[frontier + 1] - self.indptr[frontier]
            chosen = frontier[degree > 0]
            draws = self.generator.random((len(chosen), count))
            width = (self.indptr[chosen + 1] - self.indptr[chosen])[:, None]
            at = np.unique((self.indptr[chosen][:, None] + (draws * width).astype(np.int64)).ravel())
            at = at[~np.isin(self._pair(at), list(hidden))]
            edges.append(at)
            frontier = np.unique(self.source[at])
            reached.append(frontier)
        return np.unique(np.concatenate(reached)), np.unique(np.concatenate(edges))

    def _pair(self, at: np.ndarray) -> np.ndarray:
        return pair_keys(self.source[at], self.target[at], self.graph.n_concepts)


def pair_keys(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Return one int for each unordered pair of concepts."""
    result: np.ndarray = np.minimum(first, second).astype(np.int64) * count + np.maximum(first, second)
    return result


def _features(graph: KnowledgeGraph) -> np.ndarray:
    """(V, NODE_WIDTH) as the model's graph encoder reads them: name, kind, no evidence, log popularity."""
    kinds = np.eye(len(KINDS), dtype=np.float32)[graph.arrays["kind"]]
    rank = np.log10(np.maximum(graph.arrays["popularity"], 1e-8)) / 4 + 1
    columns = (name_vectors(graph.names.to_list()), kinds, np.zeros((graph.n_concepts, 1)), rank[:, None])
    return np.concatenate(columns, axis=1).astype(np.float32)


def _batch_loss(model: LinkPredictor, sampler: _Sampler) -> Tensor:
    """Cross-entropy of the true end among the batch's ends and random concepts, from both sides."""
    rows, random = sampler.batch()
    arrays = sampler.graph.arrays
    subject, target = arrays["subject"][rows].astype(np.int64), arrays["object"][rows].astype(np.int64)
    hidden = set(pair_keys(subject, target, sampler.graph.n_concepts).tolist())
    pool = np.unique(np.concatenate([subject, target, random]))
    concepts, at = sampler.neighbourhood(pool, hidden)
    local = np.full(sampler.graph.n_concepts, -1, dtype=np.int64)
    local[concepts] = np.arange(len(concepts))
    edges = torch.from_numpy(np.stack([local[sampler.source[at]], local[sampler.target[at]]]))
    states = model.states(torch.from_numpy(sampler.features[concepts]), edges, torch.from_numpy(sampler.relation[at]))
    candidates = states[torch.from_numpy(local[pool])]
    place = {concept: position for position, concept in enumerate(pool.tolist())}
    relation = torch.from_numpy(sampler.relation_of[arrays["predicate"][rows]])
    loss = torch.zeros(())
    for anchor, other, relations in ((subject, target, relation), (target, subject, relation + OTHER + 1)):
        scores = model.scores(states[torch.from_numpy(local[anchor])], relations, candidates)
        truth = torch.tensor([place[concept] for concept in other.tolist()])
        loss = loss + torch.nn.functional.cross_entropy(scores, truth) / 2
    return loss


@torch.no_grad()
def full_graph_states(model: LinkPredictor, sampler: _Sampler) -> np.ndarray:
    """Return states (V, H) of every concept from one pass over all message relations."""
    model.eval()
    edges = torch.from_numpy(np.stack([sampler.source, sampler.target]))
    states = model.states(torch.from_numpy(sampler.features), edges, torch.from_numpy(sampler.relation))
    model.train()
    result: np.ndarray = states.numpy()
    return result


Scorer = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]


def _model_scorer(model: LinkPredictor, sampler: _Sampler, embeddings: np.ndarray) -> Scorer:
    states = torch.from_numpy(embeddings)

    @torch.no_grad()
    def score(anchors: np.ndarray, predicates: np.ndarray, is_forward: bool) -> np.ndarray:
        relations = torch.from_numpy(sampler.relation_of[predicates] + (0 if is_forward else OTHER + 1))
        result: np.ndarray = model.scores(states[torch.from_numpy(anchors)], relations, states).numpy()
        return result

    return score


def _popularity_scorer(graph: KnowledgeGraph, split: LinkSplit) -> Scorer:
    """The yardstick that ignores the question but for the relation: how often a concept stands at that end."""
    arrays = graph.arrays

    def score(anchors: np.ndarray, predicates: np.ndarray, is_forward: bool) -> np.ndarray:
        end = arrays["object" if is_forward else "subject"]
        counts = np.zeros((len(graph.predicates), graph.n_concepts), dtype=np.float32)
        np.add.at(counts, (arrays["predicate"][split.train], end[split.train]), 1)
        result: np.ndarray = counts[predicates]
        return result

    return score


def filtered_measures(graph: KnowledgeGraph, rows: np.ndarray, score: Scorer, *, chunk: int = 100) -> dict[str, float]:
    """Return MRR and Hits@k over both ends of the given relations, against all concepts.

    Other true answers (of any split) do not count as errors; ties take the mean of the best and the worst place
    (Bordes et al. 2013; Berrendorf et al. 2020 on ties).
    """
    arrays = graph.arrays
    ranks = []
    for is_forward in (True, False):
        near, far = ("subject", "object") if is_forward else ("object", "subject")
        known = _known_answers(graph, near, far)
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            anchors, predicates = arrays[near][part].astype(np.int64), arrays["predicate"][part].astype(np.int64)
            truth = arrays[far][part].astype(np.int64)
            scores = score(anchors, predicates, is_forward).copy()
            own = scores[np.arange(len(part)), truth]
            for at, (anchor, predicate) in enumerate(zip(anchors.tolist(), predicates.tolist(), strict=True)):
                scores[at, known[anchor, predicate]] = -np.inf
            better, equal = (scores > own[:, None]).sum(axis=1), (scores == own[:, None]).sum(axis=1)
            ranks.append(1 + better + equal / 2)
    joined = np.concatenate(ranks)
    return {"MRR": float((1 / joined).mean())} | {f"Hits@{k}": float((joined <= k).mean()) for k in HITS}


def _known_answers(graph: KnowledgeGraph, near: str, far: str) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    arrays = graph.arrays
    for anchor, predicate, other in zip(
        arrays[near].tolist(), arrays["predicate"].tolist(), arrays[far].tolist(), strict=True
    ):
        found.setdefault((anchor, predicate), []).append(other)
    return found
