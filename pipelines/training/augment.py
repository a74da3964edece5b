"""Random changes of slice stacks that keep the answer: geometry, intensity, missing sequences. Batched, in torch."""

import math
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Augmentation:
    """How far images are changed. `drop_sequence` is the chance of hiding each sequence, in channel order."""

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 20.0
    scale: Share = 0.2
    shift: Share = 0.1
    intensity: Share = 0.25
    noise: Annotated[float, Field(ge=0, le=2)] = 0.15
    drop_sequence: tuple[Share, ...] = ()


def augment_stacks(
    stacks: Float[Tensor, "N S C H W"],
    regions: Float[Tensor, "N R H W"],
    present: Bool[Tensor, "N C"],
    settings: Augmentation,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "N S C H W"], Float[Tensor, "N R H W"], Bool[Tensor, "N C"]]:
    """Return changed stacks of S neighbouring slices, their regions moved alike, and the presence left."""
    count, neighbours, channels = stacks.shape[:3]
    grid = _random_grid(count, stacks.shape[-2:], settings, generator).to(stacks.device)
    air = stacks.amin(dim=(1, 3, 4), keepdim=True)  # what moves in from outside is air, not the mean of the head
    moved = functional.grid_sample((stacks - air).flatten(1, 2), grid, mode="bilinear", align_corners=False)
    stacks = moved.unflatten(1, (neighbours, channels)) + air
    regions = (functional.grid_sample(regions, grid, mode="bilinear", align_corners=False) > 0.5).float()

    per_channel, device = (count, 1, channels, 1, 1), stacks.device  # the generator is the CPU's: one seed, one result
    gain = 1 + settings.intensity * (2 * torch.rand(per_channel, generator=generator) - 1)
    offset = settings.intensity * torch.randn(per_channel, generator=generator)
    level = settings.noise * torch.rand(per_channel, generator=generator)
    noise = level * torch.randn(stacks.shape, generator=generator)
    stacks = stacks * gain.to(device) + offset.to(device) + noise.to(device)

    present = present & ~_dropped(present.cpu(), settings.drop_sequence, generator).to(device)
    return stacks * present[:, None, :, None, None], regions, present


def _random_grid(
    count: int, size: tuple[int, int] | torch.Size, settings: Augmentation, generator: torch.Generator
) -> Float[Tensor, "N H W 2"]:
    """Sampling grids of random similarity transforms with left-right mirroring."""

    def uniform(limit: float) -> Tensor:
        return limit * (2 * torch.rand(count, generator=generator) - 1)

    angle = uniform(math.radians(settings.rotation_deg))
    scale_x, scale_y = torch.exp(uniform(settings.scale)), torch.exp(uniform(settings.scale))
    mirror = (torch.rand(count, generator=generator) < 0.5).float() * 2 - 1
    rows = [
        torch.stack([mirror * scale_x * angle.cos(), -scale_y * angle.sin(), uniform(settings.shift)], dim=1),
        torch.stack([mirror * scale_x * angle.sin(), scale_y * angle.cos(), uniform(settings.shift)], dim=1),
    ]
    return functional.affine_grid(torch.stack(rows, dim=1), [count, 1, *size], align_corners=False)


def _dropped(
    present: Bool[Tensor, "N C"], chances: tuple[float, ...], generator: torch.Generator
) -> Bool[Tensor, "N C"]:
    """Which sequences to hide; a case that would lose all of them keeps all of them."""
    if not chances:
        return torch.zeros_like(present)
    dropped = torch.rand(present.shape, generator=generator) < torch.tensor(chances)
    loses_all = ~(present & ~dropped).any(dim=1, keepdim=True)
    return dropped & ~loses_all
