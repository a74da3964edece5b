"""Graph attention with a relation embedding on every edge, and a DistMult decoder over its states.

`gatv2` has the layers of the model's own graph encoder, so that their weights can be taken over; `gat` is the classic
attention; `distmult` is the yardstick without messages: one free vector a concept.
DistMult: Yang et al., ICLR 2015. GAT: Velickovic et al., ICLR 2018; GATv2: Brody et al., ICLR 2022.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medmm.encoders.graph import N_RELATIONS, NODE_WIDTH, GraphEncoder

RELATION_WIDTH = 16
Layer = Literal["gat", "gatv2", "distmult"]


class LinkPredictor(nn.Module):
    """States of concepts from their features and neighbours; a triple's score is <subject, relation, object>."""

    def __init__(self, width: int, layer: Layer = "gatv2", *, n_layers: int = 2, n_heads: int = 4) -> None:
        super().__init__()
        self.encoder = GraphEncoder(width, n_layers=n_layers, n_heads=n_heads)
        if layer == "gat":
            from torch_geometric.nn import GATConv

            self.encoder.layers = nn.ModuleList(
                [GATConv(width, width // n_heads, heads=n_heads, edge_dim=RELATION_WIDTH) for _ in range(n_layers)]
            )
        self.decoder = nn.Embedding(N_RELATIONS, width)
        nn.init.normal_(self.decoder.weight, 1.0, 0.1)  # starts as a plain dot product
        self.scale = nn.Parameter(torch.tensor(width**-0.5))

    def states(
        self, nodes: Float[Tensor, "V F"], edges: Int[Tensor, "2 E"], relations: Int[Tensor, " E"]
    ) -> Float[Tensor, "V H"]:
        encoder = self.encoder
        states = encoder.enter(nodes)
        features = encoder.relation(relations)
        for layer, norm in zip(encoder.layers, encoder.norms, strict=True):
            states = states + nn.functional.gelu(layer(norm(states), edges, features))
        result: Tensor = nn.functional.layer_norm(states, states.shape[-1:])
        return result

    def scores(
        self, anchors: Float[Tensor, "B H"], relations: Int[Tensor, " B"], others: Float[Tensor, "N H"]
    ) -> Float[Tensor, "B N"]:
        """Scores of every candidate as the other end; relation ids above the forward ones mean "from object"."""
        return (anchors * self.decoder(relations)) @ others.T * self.scale


class FreeVectors(LinkPredictor):
    """DistMult alone: a concept's state is its own vector, whatever its name and neighbours. `nodes` are positions."""

    def __init__(self, width: int, n_concepts: int) -> None:
        super().__init__(width)
        self.table = nn.Embedding(n_concepts, width)

    def states(
        self, nodes: Float[Tensor, "V F"], edges: Int[Tensor, "2 E"], relations: Int[Tensor, " E"]
    ) -> Float[Tensor, "V H"]:
        return nn.functional.layer_norm(self.table(nodes[:, 0].long()), self.table.weight.shape[-1:])


def pretrained_layers(model: LinkPredictor) -> dict[str, Tensor]:
    """Return the tensors that `medmm.encoders.graph.GraphEncoder` can load (`strict=False`): all but its readout."""
    return {name: tensor for name, tensor in model.encoder.state_dict().items() if name != "queries"}


__all__ = ["NODE_WIDTH", "FreeVectors", "Layer", "LinkPredictor", "pretrained_layers"]
