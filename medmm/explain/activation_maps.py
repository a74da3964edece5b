"""The Grad-CAM family: activations (F, ...) of a network, weighed by the gradient of the answer.

In a model with a trunk they are those at its quarter resolution; in one that reads images, the last feature maps.

One pass over the trunk's second half and one back give every member. The trunk looks at the volume and at its mirror
image; both passes' channels are laid side by side, the mirrored ones turned back.
Classes of libraries catch one layer of one network by hooks, slice by slice here, because slices are the trunk's batch;
over the volume the formulas are a line each, and a test holds Grad-CAM against MONAI's.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from medmm.encoders.slice_unet import TrunkOutput, with_mirrored, with_neighbours, without_mirrored
from medmm.explain.question import VolumeQuestion


def attend(question: VolumeQuestion) -> tuple[Float[Tensor, "F D h w"], Float[Tensor, "F D h w"]]:
    """Return the activations at the quarter level, and the gradient of the margin by them."""
    trunk = question.reader.model.trunk
    stacks = with_neighbours(question.volume, question.present)[0]
    with torch.no_grad():
        levels = trunk.encode(with_mirrored(stacks))
    with torch.enable_grad():
        quarter = levels.quarter.detach().requires_grad_()
        seen = TrunkOutput.of_slices(*without_mirrored(*trunk.decode(replace(levels, quarter=quarter))), 1)
        margin = question.margin_of(seen, question.volume)
        (gradient,) = torch.autograd.grad(margin.sum(), quarter)
    return _side_by_side(quarter.detach()), _side_by_side(gradient)


def gradcam(activations: Float[Tensor, "F ..."], gradient: Float[Tensor, "F ..."]) -> Float[Tensor, "..."]:
    """Channels weighed by their mean gradient (Selvaraju et al., ICCV 2017)."""
    return _weighed(activations, gradient.flatten(1).mean(dim=1))


def gradcam_plus_plus(activations: Float[Tensor, "F ..."], gradient: Float[Tensor, "F ..."]) -> Float[Tensor, "..."]:
    """Channels weighed by positive gradients, each cell by its own share (Chattopadhay et al., WACV 2018).

    As in the paper, a channel's sum meets each cell's gradient; MONAI takes the sum of the products.
    """
    total = activations.flatten(1).sum(dim=1).reshape(-1, *(1,) * (activations.ndim - 1))
    squared = gradient.square()
    below = 2 * squared + total * gradient * squared
    alpha = squared / torch.where(below != 0, below, torch.ones_like(below))
    return _weighed(activations, (alpha * gradient.clamp_min(0)).flatten(1).sum(dim=1))


def hirescam(activations: Float[Tensor, "F ..."], gradient: Float[Tensor, "F ..."]) -> Float[Tensor, "..."]:
    """Activation x gradient cell by cell (Draelos and Carin, 2020)."""
    return (activations * gradient).sum(dim=0).clamp_min(0)


def layercam(activations: Float[Tensor, "F ..."], gradient: Float[Tensor, "F ..."]) -> Float[Tensor, "..."]:
    """Activation x positive gradient cell by cell (Jiang et al., IEEE TIP 2021)."""
    return (activations * gradient.clamp_min(0)).sum(dim=0).clamp_min(0)


def to_cells(cam: Float[Tensor, "D h w"], question: VolumeQuestion) -> Float[Tensor, "1 D H W"]:
    """A map at the quarter level on the network's input grid, linear within slices."""
    size = question.volume.shape[-2:]
    return functional.interpolate(cam[:, None], size=size, mode="bilinear", align_corners=False)[:, 0][None]


def _weighed(activations: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("f,f...->...", weights, activations).clamp_min(0)


def _side_by_side(values: Float[Tensor, "N F h w"]) -> Float[Tensor, "F D h w"]:
    """Plain slices and mirrored ones, turned back, as channels of one volume."""
    plain, mirrored = values.chunk(2)
    return torch.cat([plain, mirrored.flip(-1)], dim=1).transpose(0, 1)
