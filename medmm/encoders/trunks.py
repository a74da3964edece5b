"""Trunks by name."""

from typing import Literal

from medmm.encoders.lite_slice_unet import LiteSliceUNet
from medmm.encoders.slice_unet import BasicSliceUNet, SliceUNet, TrunkWidths

# `basic` starts from random weights at any width; `lite` is pretrained on ImageNet and has one width.
TrunkName = Literal["basic", "lite"]


def build_trunk(name: TrunkName, n_sequences: int, n_regions: int, widths: TrunkWidths) -> SliceUNet:
    """Return a trunk with random weights for C sequences and R regions; `widths` are those of `basic`."""
    if name == "lite":
        return LiteSliceUNet(n_sequences, n_regions)
    return BasicSliceUNet(n_sequences, n_regions, widths)
