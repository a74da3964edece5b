"""The relations that a network may pass messages along: features of concepts, and neighbourhoods drawn from them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kg import KnowledgeGraph
from kg.schema import KINDS
from medmm.encoders.names import NAME_WIDTH, name_vectors
from pipelines.recipes.kg_pretraining.questions import questions_of

NameVectors = np.ndarray  # (V, NAME_WIDTH) float32


class Neighbourhood(NamedTuple):
    """A network's inputs, and which `concepts` (V',), ascending, its rows are."""

    concepts: np.ndarray
    nodes: Tensor
    edges: Tensor
    relations: Tensor


class Messages:
    """Messages pass both ways along the relations `rows`; no other relation of the graph is looked at."""

    def __init__(self, graph: KnowledgeGraph, rows: np.ndarray, names: NameVectors | None = None) -> None:
        passed = questions_of(graph, rows)
        order = np.argsort(passed.answer, kind="stable")
        passed = passed.take(order)
        self.source, self.relation, self.target = passed.anchor, passed.relation, passed.answer
        self.n_concepts = graph.n_concepts
        self.bounds = np.searchsorted(self.target, np.arange(graph.n_concepts + 1))
        kinds = np.eye(len(KINDS), dtype=np.float32)[graph.arrays["kind"]]
        names = name_vectors(graph.names.to_list()) if names is None else names
        if names.shape != (graph.n_concepts, NAME_WIDTH):
            raise ValueError(f"Expected name vectors ({graph.n_concepts}, {NAME_WIDTH}) (got {names.shape}).")
        self._known = np.concatenate([names, kinds, np.zeros_like(kinds[:, :1])], axis=1).astype(np.float32)

    def everything(self) -> Neighbourhood:
        """All concepts and all messages."""
        concepts = np.arange(self.n_concepts)
        return self._inputs(concepts, np.arange(len(self.source)), np.diff(self.bounds))

    def around(
        self,
        seeds: np.ndarray,
        fan_out: tuple[int, ...],
        hidden: tuple[np.ndarray, np.ndarray],
        generator: np.random.Generator,
    ) -> Neighbourhood:
        """Up to `fan_out` neighbours a hop around `seeds` (N,), as if the relations between the `hidden` pairs of
        concepts, two arrays (B,), were not there: they are what is asked."""
        keys = np.unique(self._pairs(*hidden))
        reached, frontier, edges = [seeds], np.unique(seeds), []
        for count in fan_out:
            degree = self.bounds[frontier + 1] - self.bounds[frontier]
            chosen, width = frontier[degree > 0], degree[degree > 0][:, None]
            draws = generator.random((len(chosen), count))
            at = np.unique((self.bounds[chosen][:, None] + (draws * width).astype(np.int64)).ravel())
            at = at[~np.isin(self._pairs(self.source[at], self.target[at]), keys)]
            edges.append(at)
            frontier = np.unique(self.source[at])
            reached.append(frontier)
        concepts = np.unique(np.concatenate(reached))
        hidden_ends, counts = np.unique(
            np.concatenate([keys // self.n_concepts, keys % self.n_concepts]), return_counts=True
        )
        degree = self.bounds[concepts + 1] - self.bounds[concepts]
        degree[np.searchsorted(concepts, hidden_ends)] -= counts
        return self._inputs(concepts, np.unique(np.concatenate(edges)), degree)

    def _inputs(self, concepts: np.ndarray, at: np.ndarray, degree: np.ndarray) -> Neighbourhood:
        """Features as the model's graph encoder reads them: name, kind, no evidence, log popularity.

        Popularity is the share of the messages that reach the concept: what a walk without evidence would visit.
        """
        share = np.maximum(degree, 0) / max(len(self.source), 1)
        popularity = np.log10(np.maximum(share, 1e-8)) / 4 + 1
        nodes = np.concatenate([self._known[concepts], popularity[:, None].astype(np.float32)], axis=1)
        local = np.stack([np.searchsorted(concepts, ends[at]) for ends in (self.source, self.target)])
        return Neighbourhood(
            concepts, torch.from_numpy(nodes), torch.from_numpy(local), torch.from_numpy(self.relation[at])
        )

    def _pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """One number for each unordered pair of concepts."""
        result: np.ndarray = np.minimum(first, second) * self.n_concepts + np.maximum(first, second)
        return result
