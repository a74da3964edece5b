"""Standardising by the training cases, where others put layer normalisation.

Layer normalisation forgets the length of its input, so gradient x input adds up to nothing behind it and an attribution
says nothing. Fixed means and deviations keep what they scale, and give attributions a meaningful zero: the mean case.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

LIMIT = 5.0  # deviations; a case far outside the training cases must not shout


class Standardise(nn.Module):
    """Subtract the mean and divide by the deviation of the training cases; nothing is learned by gradient."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def fit(self, vectors: Float[Tensor, "N F"]) -> None:
        """Set mean and deviation from the training cases.

        Raises:
            ValueError: There are fewer than two, which have no deviation.
        """
        if len(vectors) < 2:
            raise ValueError(f"Expected at least two vectors to take a deviation of (got {len(vectors)}).")
        self.mean.copy_(vectors.mean(dim=0))
        self.deviation.copy_(vectors.std(dim=0).clamp_min(1e-3))

    def forward(self, vectors: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
        return ((vectors - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)
