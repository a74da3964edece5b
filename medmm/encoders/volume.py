"""From what the trunk sees to volume tokens: one for the lesion, one for each slice.

Pooling has no parameters (`summarise`), so that a frozen trunk's summaries can be computed once and trained on;
`VolumeTokens` holds what is learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medmm.encoders.slice_unet import TrunkOutput
from medmm.encoders.standard import Standardise
from medmm.encoders.tokens import Tokens

VolumeTokenKind = Literal["descriptor", "features", "slices"]
N_POSITION = 7  # centroid x y z, spread x y z, log of the marked share
FAINT_PROBABILITY = 0.3  # below it a cell does not count for where the region lies
HEAD_ABOVE = -0.8  # standardised intensity, mean of the present sequences: 0 is the head's mean, air lies below
UNIFORM_WEIGHT = 1e-3  # keeps the weights defined where nothing is marked: the whole slice then counts alike


@dataclass(frozen=True, slots=True)
class VolumeSummary:
    """Pooled views of a batch of volumes.

    `lesion` (B, P): features under the regions, position, intensities. `slices` (B, D, Q): mean features of each
    slice, its share of the lesion, its height. `slice_mask` (B, D): real slices. `position` (B, 7): see
    `lesion_position`. `found` (B,): whether any voxel is more likely marked than not.
    """

    lesion: Float[Tensor, "B P"]
    slices: Float[Tensor, "B D Q"]
    slice_mask: Bool[Tensor, "B D"]
    position: Float[Tensor, "B 7"]
    found: Bool[Tensor, " B"]

    def to(self, device: torch.device) -> "VolumeSummary":
        """The same on another device."""
        return VolumeSummary(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def summary_widths(n_features: int, n_sequences: int) -> tuple[int, int]:
    """Widths (P, Q) of the lesion and slice vectors that `summarise` gives."""
    return n_features + N_POSITION + 3 * n_sequences, n_features + 2


def summarise(seen: TrunkOutput, volume: Float[Tensor, "B C D H W"], present: Bool[Tensor, "B C"]) -> VolumeSummary:
    """Pool features and intensities under the regions that the trunk marks, and over each slice."""
    probability = seen.region_logits.sigmoid().amax(dim=1, keepdim=True)  # (B, 1, D, H, W)
    quarter = functional.avg_pool3d(marked_mass(probability), (1, 4, 4))
    weights = quarter + UNIFORM_WEIGHT / quarter[0].numel()
    weights = weights / weights.sum(dim=(2, 3, 4), keepdim=True)  # (B, 1, D, h, w)
    features = (seen.features * weights).sum(dim=(2, 3, 4))
    images = functional.avg_pool3d(volume, (1, 4, 4))
    intensity = (images * weights).sum(dim=(2, 3, 4))
    contrast = (
        ((images - intensity[..., None, None, None]).square() * weights).sum(dim=(2, 3, 4)).clamp_min(1e-6).sqrt()
    )
    position = lesion_position(probability, volume, present)
    by_slice = weights.sum(dim=(1, 3, 4))  # (B, D)
    depth = volume.shape[2]
    height = torch.linspace(-1, 1, depth, device=volume.device).expand(volume.shape[0], depth)
    slices = torch.cat([seen.features.mean(dim=(3, 4)).transpose(1, 2), by_slice[..., None], height[..., None]], dim=2)
    return VolumeSummary(
        lesion=torch.cat([features, position, intensity, contrast, present.to(volume.dtype)], dim=1),
        slices=slices,
        slice_mask=torch.ones(volume.shape[0], depth, dtype=torch.bool, device=volume.device),
        position=position,
        found=(probability > 0.5).flatten(1).any(dim=1),
    )


def marked_mass(probability: Float[Tensor, "*B D H W"]) -> Float[Tensor, "*B D H W"]:
    """Return the probability of a region where it is not faint, else 0.

    A faint probability over the whole head adds up to more than the lesion itself.
    """
    return torch.where(probability > FAINT_PROBABILITY, probability, torch.zeros_like(probability))


def head_mask(volume: Float[Tensor, "B C D H W"], present: Bool[Tensor, "B C"]) -> Bool[Tensor, "B D H W"]:
    """Where the head is: the present sequences are, on average, above their mean intensity, with a margin."""
    n_present = present.sum(dim=1).clamp_min(1)[:, None, None, None]
    return (volume.sum(dim=1) / n_present) > HEAD_ABOVE


def lesion_position(
    probability: Float[Tensor, "B 1 D H W"], volume: Float[Tensor, "B C D H W"], present: Bool[Tensor, "B C"]
) -> Float[Tensor, "B 7"]:
    """Where the marked mass lies in the box around the head: x to Right, y to Anterior, z to Superior, each -1..1.

    Centroid (3), spread (3), log of marked share of the head (1).
    """
    head = head_mask(volume, present).to(volume.dtype)
    mass = marked_mass(probability)[:, 0]
    centroid, spread = [], []
    for axis in (3, 2, 1):  # W is x, H is y, D is z
        others = tuple(a for a in (1, 2, 3) if a != axis)
        profile = mass.sum(dim=others)  # (B, n)
        coordinate = _box_coordinate(head.mean(dim=others))
        share = profile / profile.sum(dim=1, keepdim=True).clamp_min(1e-6)
        centre = (share * coordinate).sum(dim=1)
        centroid.append(centre)
        spread.append((share * (coordinate - centre[:, None]).square()).sum(dim=1).clamp_min(1e-8).sqrt())
    marked_share = mass.sum(dim=(1, 2, 3)) / head.sum(dim=(1, 2, 3)).clamp_min(1)
    return torch.stack([*centroid, *spread, (marked_share + 1e-4).log() / 5], dim=1)


def _box_coordinate(profile: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """Coordinate of each index in the span where the head's profile is above a tenth of its maximum: -1..1."""
    inside = profile > 0.1 * profile.amax(dim=1, keepdim=True)
    index = torch.arange(profile.shape[1], device=profile.device, dtype=profile.dtype).expand_as(profile)
    low = torch.where(inside, index, torch.full_like(index, float("inf"))).amin(dim=1, keepdim=True)
    high = torch.where(inside, index, torch.full_like(index, float("-inf"))).amax(dim=1, keepdim=True)
    return (2 * (index - low) / (high - low).clamp_min(1) - 1).clamp(-1.5, 1.5)


class VolumeTokens(nn.Module):
    """Learned projection of a summary to tokens, of the kinds asked for, in this order.

    `descriptor`: position, size, intensity and contrast of the lesion; all that a few dozen cases can support.
    `features`: what the trunk computed under the lesion. `slices`: one token a slice. Each standardised by the training
    cases.
    """

    def __init__(self, n_features: int, n_sequences: int, width: int, kinds: Sequence[VolumeTokenKind]) -> None:
        super().__init__()
        lesion_width, slice_width = summary_widths(n_features, n_sequences)
        self.n_features = n_features
        self.kinds = tuple(kinds)
        self.standard_lesion = Standardise(lesion_width)
        self.standard_slices = Standardise(slice_width)
        parts: dict[str, nn.Module] = {
            "descriptor": nn.Linear(lesion_width - n_features, width),
            "features": nn.Sequential(nn.Dropout(0.3), nn.Linear(n_features, width)),
            "slices": nn.Sequential(nn.Dropout(0.3), nn.Linear(slice_width, width)),
        }
        self.parts = nn.ModuleDict({kind: parts[kind] for kind in self.kinds})

    def fit(self, summaries: Sequence[VolumeSummary]) -> None:
        """Set means and deviations from the training cases' summaries."""
        self.standard_lesion.fit(torch.cat([summary.lesion for summary in summaries]))
        self.standard_slices.fit(torch.cat([summary.slices[summary.slice_mask] for summary in summaries]))

    def forward(self, summary: VolumeSummary) -> Tokens:
        lesion = self.standard_lesion(summary.lesion)
        one = torch.ones_like(summary.slice_mask[:, :1])
        sources = {
            "descriptor": (lesion[:, None, self.n_features :], one),
            "features": (lesion[:, None, : self.n_features], one),
            "slices": (self.standard_slices(summary.slices), summary.slice_mask),
        }
        values = [self.parts[kind](sources[kind][0]) for kind in self.kinds]
        return Tokens(torch.cat(values, dim=1), torch.cat([sources[kind][1] for kind in self.kinds], dim=1))
