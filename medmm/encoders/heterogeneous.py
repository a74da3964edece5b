"""A heterogeneous graph transformer: what a concept says depends on its kind and on the relation it says it by."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medmm.encoders.geometric import softmax


class HeterogeneousLayer(nn.Module):
    """Attention whose queries, keys and values depend on the concept's kind, and whose messages on the relation.

    Source: Hu et al., "Heterogeneous graph transformer", WWW 2020. Relations have their matrices for all pairs of kinds
    together: with 8 kinds and 26 relations, one for each combination would be mostly unseen in training.
    """

    def __init__(self, width: int, n_heads: int, n_kinds: int, n_relations: int) -> None:
        super().__init__()
        self.n_heads, self.head_width = n_heads, width // n_heads
        bound = width**-0.5
        self.project = nn.Parameter(torch.empty(n_kinds, width, 3 * width).uniform_(-bound, bound))
        self.leave = nn.Parameter(torch.empty(n_kinds, width, width).uniform_(-bound, bound))
        start = torch.eye(self.head_width).expand(n_relations, n_heads, -1, -1)
        self.attend = nn.Parameter(start.clone())
        self.message = nn.Parameter(start.clone())
        self.prior = nn.Parameter(torch.ones(n_relations, n_heads))

    def forward(
        self,
        states: Float[Tensor, "V F"],
        edges: Int[Tensor, "2 E"],
        relations: Int[Tensor, " E"],
        kinds: Int[Tensor, " V"],
    ) -> Float[Tensor, "V F"]:
        projected = _by_kind(states, self.project, kinds)
        queries, keys, values = (
            part.unflatten(1, (self.n_heads, self.head_width)) for part in projected.chunk(3, dim=1)
        )
        source, target = edges
        keyed = keys.new_zeros(len(source), self.n_heads, self.head_width)
        sent = torch.zeros_like(keyed)
        for relation in relations.unique().tolist():  # a matrix for each edge would be gigabytes
            rows = (relations == relation).nonzero().squeeze(1)
            keyed = keyed.index_copy(0, rows, torch.einsum("ehd,hdk->ehk", keys[source[rows]], self.attend[relation]))
            sent = sent.index_copy(0, rows, torch.einsum("ehd,hdk->ehk", values[source[rows]], self.message[relation]))
        logits = (queries[target] * keyed).sum(dim=2) * self.prior[relations] / self.head_width**0.5
        weights = softmax(logits, target, num_nodes=len(states))  # (E, H)
        gathered = torch.zeros_like(states).index_add(0, target, (weights[..., None] * sent).flatten(1))
        return _by_kind(torch.nn.functional.gelu(gathered), self.leave, kinds)


def _by_kind(states: Float[Tensor, "V F"], maps: Float[Tensor, "K F G"], kinds: Int[Tensor, " V"]) -> Tensor:
    """Each node through the linear map of its kind."""
    found = states.new_zeros(len(states), maps.shape[2])
    for kind in range(len(maps)):
        rows = (kinds == kind).nonzero().squeeze(1)
        found = found.index_copy(0, rows, states[rows] @ maps[kind])
    return found
