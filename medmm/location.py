"""Location tasks (side, lobe): logits from where the marked region lies in the head, and from nothing else."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

N_TERMS = 10


def location_terms(position: Float[Tensor, "B 7"]) -> Float[Tensor, "B 10"]:
    """Return polynomial terms of the centroid in head coordinates (x Right, y Anterior, z Superior; each -1..1)."""
    x, y, z = position[:, 0], position[:, 1], position[:, 2]
    lateral = x.abs()
    return torch.stack([x, lateral, y, z, lateral**2, y**2, z**2, lateral * y, lateral * z, y * z], dim=1)


class LocationHead(nn.Module):
    """Multinomial logistic regression on the terms; fitted with scikit-learn, kept as a linear layer."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(N_TERMS, n_classes)

    def forward(self, position: Float[Tensor, "B 7"]) -> Float[Tensor, "B L"]:
        return self.score(location_terms(position))
