"""Location tasks (side, lobe): logits from where the marked region lies in the head, and from nothing else."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

N_TERMS = 4


def location_terms(position: Float[Tensor, "B 7"]) -> Float[Tensor, "B 4"]:
    """Return the centroid in head coordinates, x and |x| to Right, y to Anterior, z to Superior, each -1..1.

    Squares and products of these did not help lobes in cross-validation on 78 patients, so there are none.
    """
    x, y, z = position[:, 0], position[:, 1], position[:, 2]
    return torch.stack([x, x.abs(), y, z], dim=1)


class LocationHead(nn.Module):
    """Multinomial logistic regression on the terms; fitted with scikit-learn, kept as a linear layer."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(N_TERMS, n_classes)

    @torch.no_grad()
    def set_linear(self, weight: Float[Tensor, "L 4"], bias: Float[Tensor, " L"]) -> None:
        """Take over fitted coefficients."""
        self.score.weight.copy_(weight)
        self.score.bias.copy_(bias)

    def forward(self, position: Float[Tensor, "B 7"]) -> Float[Tensor, "B L"]:
        return self.score(location_terms(position))
