"""From the feature maps of a case's images to tokens: one, or a small grid of them, an image.

Pooling has no parameters, so that a frozen network's vectors can be computed once and trained on; fusion pools tokens
over images by attention.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medmm.encoders.standard import Standardise
from medmm.encoders.tokens import Tokens


def pool_maps(maps: Float[Tensor, "n F *s"], grid: int) -> Float[Tensor, "T F"]:
    """Return the mean of each of `grid` x `grid` (x `grid`) cells of every map, image by image."""
    pool = functional.adaptive_avg_pool2d if maps.ndim == 4 else functional.adaptive_avg_pool3d
    return pool(maps, grid).flatten(2).transpose(1, 2).flatten(0, 1)


class ImageTokens(nn.Module):
    """Learned projection of image vectors, standardised by the training cases, to tokens."""

    def __init__(self, image_width: int, width: int) -> None:
        super().__init__()
        self.standard = Standardise(image_width)
        self.project = nn.Sequential(nn.Dropout(0.3), nn.Linear(image_width, width))

    def fit(self, vectors: Float[Tensor, "N F"]) -> None:
        """Set means and deviations from the training cases' image vectors."""
        self.standard.fit(vectors)

    @torch.no_grad()
    def centre(self, vectors: Float[Tensor, "N F"]) -> None:
        """Standardise by these vectors from now on, the projection making up for it: tokens stay as they were.

        So a network that was trained through this module gets a mean case for attributions to start from. Only what
        lies beyond the limit of `Standardise` is cut elsewhere.
        """
        mean, deviation = self.standard.mean.clone(), self.standard.deviation.clone()
        self.standard.fit(vectors)
        linear = cast(nn.Linear, self.project[1])
        linear.bias.add_(linear.weight @ ((self.standard.mean - mean) / deviation))
        linear.weight.mul_(self.standard.deviation / deviation)

    def forward(self, images: Tokens) -> Tokens:
        values = torch.where(images.mask[..., None], images.values, torch.zeros_like(images.values))
        return Tokens(self.project(self.standard(values)), images.mask)
