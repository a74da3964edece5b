"""The volume trunk: a U-Net over axial slices with their neighbours (2.5D), for where-tasks and for tokens.

Thick-slice MR (5 mm and more) has little to convolve across slices; a slice sees its two neighbours as channels.
Sequences are joined early: absent ones are zero and a constant channel per sequence says which are present.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional

from medmm.passes import in_passes

NEIGHBOURS = 3  # slices below, at and above
TrunkWidths = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class TrunkOutput:
    """What the trunk sees in a volume.

    `region_logits` (B, R, D, H, W): where each region is. `features` (B, F, D, H/4, W/4): deepest level and the
    quarter-resolution decoder level side by side; tokens are pooled from it and attributions attach to it.
    """

    region_logits: Float[Tensor, "B R D H W"]
    features: Float[Tensor, "B F D h w"]

    @classmethod
    def of_slices(cls, logits: Float[Tensor, "N R H W"], features: Float[Tensor, "N F h w"], n: int) -> "TrunkOutput":
        """Join the slices of `n` volumes of one depth, one volume after the other."""
        return cls(*(values.unflatten(0, (n, -1)).transpose(1, 2) for values in (logits, features)))


@dataclass(frozen=True, slots=True)
class Levels:
    """What lies between the two halves of a network: finer skips, finest first, and the levels of the features."""

    skips: tuple[Float[Tensor, "N F H W"], ...]
    quarter: Float[Tensor, "N F h w"]
    deepest: Float[Tensor, "N F H16 W16"]

    def features(self) -> Float[Tensor, "N F h w"]:
        """The deepest level and the decoder's quarter resolution side by side."""
        return torch.cat([resized_like(self.deepest, self.quarter), self.quarter], dim=1)


class SliceUNet(nn.Module):
    """A network over slices with their neighbours (see `with_neighbours`); `look` shows it a volume."""

    n_features: int

    def encode(self, stacks: Float[Tensor, "N S H W"]) -> Levels:
        """The levels of the network up to the decoder's quarter resolution; `decode` goes on from there."""
        raise NotImplementedError

    def decode(self, levels: Levels) -> tuple[Float[Tensor, "N R H W"], Float[Tensor, "N F h w"]]:
        """Logits and features of what `encode` gave. Attributions attach to `levels.quarter`."""
        raise NotImplementedError

    def forward(self, stacks: Float[Tensor, "N S H W"]) -> tuple[Float[Tensor, "N R H W"], Float[Tensor, "N F h w"]]:
        return self.decode(self.encode(stacks))


class BasicSliceUNet(SliceUNet):
    """MONAI's BasicUNet (Falk et al., Nature Methods 2019) over slices, from random weights.

    Args:
        n_sequences: Sequences C of the input.
        n_regions: Regions R to delineate.
        widths: Channels of the five encoder levels and of the last decoder level.
    """

    def __init__(self, n_sequences: int, n_regions: int, widths: TrunkWidths) -> None:
        super().__init__()
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=n_sequences * (NEIGHBOURS + 1),
            out_channels=n_regions,
            features=widths,
            act=("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
            norm="batch",  # instance norm would hide how bright a whole slice is against the rest of its volume
        )
        self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU
        self.n_features = widths[4] + widths[2]

    def encode(self, stacks: Float[Tensor, "N S H W"]) -> Levels:
        net = self.unet
        full = net.conv_0(stacks)
        half = net.down_1(full)
        level2 = net.down_2(half)
        level3 = net.down_3(level2)
        deepest = net.down_4(level3)
        quarter = net.upcat_3(net.upcat_4(deepest, level3), level2)
        return Levels(skips=(full, half), quarter=quarter, deepest=deepest)

    def decode(self, levels: Levels) -> tuple[Float[Tensor, "N R H W"], Float[Tensor, "N F h w"]]:
        net, (full, half) = self.unet, levels.skips
        last = net.upcat_1(net.upcat_2(levels.quarter, half), full)
        return net.final_conv(last), levels.features()


def resized_like(maps: Float[Tensor, "N F *s"], other: Float[Tensor, "N G H W"]) -> Float[Tensor, "N F H W"]:
    """Maps at the resolution of others, bilinearly."""
    return functional.interpolate(maps, size=other.shape[-2:], mode="bilinear", align_corners=False)


def look(trunk: SliceUNet, volume: Float[Tensor, "B C D H W"], present: Bool[Tensor, "B C"]) -> TrunkOutput:
    """What the trunk sees, with regions averaged (as probabilities) over the volume and its left-right mirror image."""
    stacks = with_neighbours(volume, present).flatten(0, 1)
    plain, features = trunk(stacks)
    mirrored, _ = trunk(stacks.flip(-1))
    return TrunkOutput.of_slices(mean_logits(plain, mirrored.flip(-1)), features.float(), len(volume))


def look_together(trunk: SliceUNet, cases: Sequence[tuple[Tensor, Tensor]], rows_at_once: int) -> list[TrunkOutput]:
    """What `look` says of several (volume, present) with batches of one, in shared passes (see `medmm.passes`)."""
    stacks = [with_mirrored(with_neighbours(volume, present)[0]) for volume, present in cases]
    return [TrunkOutput.of_slices(*without_mirrored(*answer), 1) for answer in in_passes(trunk, stacks, rows_at_once)]


def with_mirrored(stacks: Float[Tensor, "N S H W"]) -> Float[Tensor, "M S H W"]:
    """Slices, and after them their left-right mirror images."""
    return torch.cat([stacks, stacks.flip(-1)])


def without_mirrored(
    logits: Float[Tensor, "M R H W"], features: Float[Tensor, "M F h w"]
) -> tuple[Float[Tensor, "N R H W"], Float[Tensor, "N F h w"]]:
    """What the trunk says of `with_mirrored`: logits averaged over both, features of the slices as they are."""
    plain, mirrored = logits.chunk(2)
    return mean_logits(plain, mirrored.flip(-1)), features.chunk(2)[0].float()


def mean_logits(first: Float[Tensor, "*B"], second: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """The logit of the mean of two probabilities; in float32, because bfloat16 has nothing between 0.996 and 1."""
    return torch.logit((first.float().sigmoid() + second.float().sigmoid()) / 2, eps=1e-6)


def with_neighbours(volume: Float[Tensor, "B C D H W"], present: Bool[Tensor, "B C"]) -> Float[Tensor, "B D S H W"]:
    """Stack each slice with the one below and above (the edge slices repeat) and one presence channel a sequence."""
    below = torch.cat([volume[:, :, :1], volume[:, :, :-1]], dim=2)
    above = torch.cat([volume[:, :, 1:], volume[:, :, -1:]], dim=2)
    flags = present.to(volume.dtype)[:, :, None, None, None].expand_as(volume)
    return torch.cat([below, volume, above, flags], dim=1).transpose(1, 2)
