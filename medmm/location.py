"""Location tasks (side, lobe): logits from where the marked region lies in the head, and from nothing else."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

N_TERMS = 3
Laterality = Literal["signed", "folded"]


def location_terms(position: Float[Tensor, "B 7"], laterality: Laterality) -> Float[Tensor, "B 3"]:
    """Return the centroid in head coordinates: x to Right, y to Anterior, z to Superior, each -1..1.

    `folded` takes |x| for x, for answers that are the same on both sides, such as lobes. Squares and products of these
    did not help lobes in cross-validation on 78 patients, so there are none.
    """
    x = position[:, 0] if laterality == "signed" else position[:, 0].abs()
    return torch.stack([x, position[:, 1], position[:, 2]], dim=1)


class LocationHead(nn.Module):
    """Multinomial logistic regression on the terms; fitted with scikit-learn, kept as a linear layer."""

    def __init__(self, n_classes: int, laterality: Laterality) -> None:
        super().__init__()
        self.laterality: Laterality = laterality
        self.score = nn.Linear(N_TERMS, n_classes)

    @torch.no_grad()
    def set_linear(self, weight: Float[Tensor, "L 3"], bias: Float[Tensor, " L"]) -> None:
        """Take over fitted coefficients."""
        self.score.weight.copy_(weight)
        self.score.bias.copy_(bias)

    def forward(self, position: Float[Tensor, "B 7"]) -> Float[Tensor, "B L"]:
        return self.score(location_terms(position, self.laterality))
