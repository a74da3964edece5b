"""A trunk that begins from ImageNet: EfficientNet-Lite0 as the encoder of a U-Net over slices.

A network that has seen a million photographs needs fewer patients to learn where a lesion lies (Iglovikov and Shvets,
TernausNet, arXiv 1801.05746, for the idea). The last level of the decoder is at half resolution: full resolution would
cost as much as the rest of the network, and the edge it adds is thinner than readers' disagreement.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medmm.encoders.lite_network import LiteNetwork, PaddedConvolution, load_lite_network
from medmm.encoders.slice_unet import NEIGHBOURS, Levels, SliceUNet, resized_like

# Blocks of EfficientNet-Lite0 by the resolution of what they give: 1/2, 1/4, 1/8, 1/16, 1/32 of the slice.
_STAGES = (slice(1, 2), slice(2, 4), slice(4, 6), slice(6, 12), slice(12, 17))
_STAGE_WIDTHS = (16, 24, 40, 112, 320)
_DECODER_WIDTHS = (32, 48, 64, 96)  # at 1/2, 1/4, 1/8, 1/16


class LiteSliceUNet(SliceUNet):
    """U-Net (Ronneberger et al., MICCAI 2015) with an EfficientNet-Lite0 encoder; random until `load_pretrained`.

    Args:
        n_sequences: Sequences C of the input.
        n_regions: Regions R to delineate.
    """

    def __init__(self, n_sequences: int, n_regions: int) -> None:
        super().__init__()
        self.n_sequences = n_sequences
        body = LiteNetwork().body
        self.stem = PaddedConvolution(n_sequences * (NEIGHBOURS + 1), 32, 3, 2)
        self.stages = _stages_of(body)
        below = (*_DECODER_WIDTHS[1:], _STAGE_WIDTHS[-1])  # what comes up from the next coarser level
        self.up = nn.ModuleList(
            [
                _two_convolutions(below[level] + _STAGE_WIDTHS[level], _DECODER_WIDTHS[level])
                for level in reversed(range(len(_DECODER_WIDTHS)))
            ]
        )
        self.head = nn.Conv2d(_DECODER_WIDTHS[0], n_regions, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU
        self.n_features = _STAGE_WIDTHS[3] + _DECODER_WIDTHS[1]

    def load_pretrained(self) -> None:
        """Take the encoder's ImageNet weights: the slice itself enters as colours, its neighbours with weight 0.

        Raises:
            UsageError: `model.incomplete` where the weights' package is not installed (extra `pictures`).
        """
        body = load_lite_network().body
        stem = body[0].state_dict()
        colours = stem["conv.weight"]  # (32, 3, 3, 3)
        if self.n_sequences != colours.shape[1]:  # the mean colour for each sequence, as bright in sum
            mean = colours.mean(dim=1, keepdim=True) * colours.shape[1] / self.n_sequences
            colours = mean.expand(-1, self.n_sequences, -1, -1)
        weight = torch.zeros_like(self.stem.conv.weight)
        weight[:, self.n_sequences : 2 * self.n_sequences] = colours
        self.stem.load_state_dict(stem | {"conv.weight": weight})
        self.stages.load_state_dict(_stages_of(body).state_dict())

    def encode(self, stacks: Float[Tensor, "N S H W"]) -> Levels:
        maps, levels = self.stem(stacks.contiguous(memory_format=torch.channels_last)), []
        for stage in self.stages:
            maps = stage(maps)
            levels.append(maps)
        for up, skip in zip(self.up[:-1], reversed(levels[1:-1]), strict=True):
            maps = up(_joined(maps, skip))
        return Levels(skips=(levels[0],), quarter=maps, deepest=levels[3])

    def decode(self, levels: Levels) -> tuple[Float[Tensor, "N R H W"], Float[Tensor, "N F h w"]]:
        half = self.head(self.up[-1](_joined(levels.quarter, levels.skips[0])))
        logits = nn.functional.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
        return logits, levels.features()


def _stages_of(body: nn.Sequential) -> nn.ModuleList:
    return nn.ModuleList([nn.Sequential(*list(body)[blocks]) for blocks in _STAGES])


def _joined(coarse: Float[Tensor, "N F *s"], fine: Float[Tensor, "N G H W"]) -> Float[Tensor, "N FG H W"]:
    return torch.cat([resized_like(coarse, fine), fine], dim=1)


def _two_convolutions(n_in: int, n_out: int) -> nn.Sequential:
    steps: list[nn.Module] = []
    for width in (n_in, n_out):
        steps += [nn.Conv2d(width, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.LeakyReLU(0.1, True)]
    return nn.Sequential(*steps)
