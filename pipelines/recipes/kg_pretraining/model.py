"""Two ways to answer "which concept stands at the other end?", both as a dot product of a question with every concept.

`LinkPredictor`: the model's own graph attention layers give each concept a state from its name, kind and neighbours.
`FreeVectors`: ComplEx, the yardstick without names and messages: a complex vector of its own for each concept.
ComplEx: Trouillon et al., ICML 2016. GAT: Velickovic et al., ICLR 2018; GATv2: Brody et al., ICLR 2022.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medmm.encoders.graph import N_RELATIONS, GraphEncoder, GraphNetwork


class LinkPredictor(nn.Module):
    """States of concepts from their features and neighbours, and questions put to them."""

    def __init__(self, width: int, network: GraphNetwork = "gatv2", *, n_layers: int = 2, n_heads: int = 4) -> None:
        super().__init__()
        self.encoder = GraphEncoder(width, n_layers=n_layers, n_heads=n_heads, network=network)
        self.relation = nn.Embedding(N_RELATIONS, width)
        # A plain dot product would answer each question with the concept that asks it.
        self.turn = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.scale = nn.Parameter(torch.tensor(width**-0.5))

    def states(
        self, nodes: Float[Tensor, "V F"], edges: Int[Tensor, "2 E"], relations: Int[Tensor, " E"]
    ) -> Float[Tensor, "V H"]:
        states = self.encoder.states(nodes, edges, relations)
        return nn.functional.layer_norm(states, states.shape[-1:])

    def ask(self, anchors: Float[Tensor, "B H"], relations: Int[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """The questions as vectors: dot products with states are the answers' logits."""
        turned: Tensor = self.turn(torch.cat([anchors, self.relation(relations)], dim=1))
        return turned * self.scale


class FreeVectors(nn.Module):
    """Complex vectors as real ones of twice the size: real parts first, then imaginary ones."""

    def __init__(self, width: int, n_concepts: int, *, start: float = 1e-3) -> None:
        super().__init__()
        self.concept = nn.Embedding(n_concepts, width)
        self.relation = nn.Embedding(N_RELATIONS, width)
        for table in (self.concept, self.relation):
            nn.init.normal_(table.weight, 0.0, start)

    def ask(self, anchors: Float[Tensor, "B H"], relations: Int[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """The questions as vectors: <anchor, relation, conjugate answer> is their dot product with an answer."""
        (a, b), (c, d) = anchors.chunk(2, dim=1), self.relation(relations).chunk(2, dim=1)
        return torch.cat([a * c - b * d, a * d + b * c], dim=1)


def moduli(vectors: Float[Tensor, "B H"]) -> Float[Tensor, "B K"]:
    """Absolute values of complex vectors as `FreeVectors` keeps them."""
    real, imaginary = vectors.chunk(2, dim=1)
    return (real**2 + imaginary**2 + 1e-12).sqrt()


def pretrained_layers(model: LinkPredictor) -> dict[str, Tensor]:
    """Return the tensors that `medmm.encoders.graph.GraphEncoder` can load (`strict=False`): all but its readout."""
    return {name: tensor for name, tensor in model.encoder.state_dict().items() if name != "queries"}
