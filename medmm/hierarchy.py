"""What the graph's is_a says about findings that can hold together: a kind of something is that something."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kg import KnowledgeGraph
from kg.schema import SUBCLASS_OF


def descendants(graph: KnowledgeGraph, concepts: Sequence[str]) -> np.ndarray:
    """Return bool (L, L): row is the concept itself or an ancestor of the column, by is_a over any number of steps.

    Concepts that are not in the graph (or empty) stand alone.
    """
    table = np.eye(len(concepts), dtype=bool)
    rows = {graph.index(concept): row for row, concept in enumerate(concepts) if concept in graph}
    for start, column in rows.items():
        reached, frontier = {start}, [start]
        while frontier:
            frontier = [
                neighbor.concept
                for concept in frontier
                for neighbor in graph.neighbors(concept)
                if neighbor.predicate == SUBCLASS_OF and neighbor.is_forward and neighbor.concept not in reached
            ]
            reached.update(frontier)
        for ancestor in reached & rows.keys():
            table[rows[ancestor], column] = True
    return table


def constrain(logits: Float[Tensor, "*B L"], is_below: Bool[Tensor, "L L"]) -> Float[Tensor, "*B L"]:
    """Return logits where a parent is never less probable than a child: each takes the largest of its descendants'.

    Source: Giunchiglia and Lukasiewicz, "Coherent hierarchical multi-label classification networks", NeurIPS 2020.
    """
    return logits[..., None, :].masked_fill(~is_below, float("-inf")).amax(dim=-1)


def as_buffer(n_classes: int) -> Tensor:
    """Before the graph is consulted every class stands alone."""
    return torch.eye(n_classes, dtype=torch.bool)
