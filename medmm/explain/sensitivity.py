"""Volume methods that ask the whole model: integrated gradients, SmoothGrad, occlusion. Many passes, on demand."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from medmm.explain.question import VolumeQuestion

STEPS = 8
NOISY_SAMPLES = 8
NOISE = 0.15  # of the head's deviation, which is 1 after standardising
BOX_SLICES = 3
BOXES_A_SIDE = 8  # of a slice


class Asked(Protocol):
    """An answer as a function of the pixels of a case: `volume` and `blank()` (1, C, *S), `present` (1, C).

    `medmm.explain.question.VolumeQuestion` for a model with a trunk, `medmm.explain.images.ImagesQuestion` for one
    that reads images.
    """

    @property
    def volume(self) -> Tensor:
        """What the network reads."""

    @property
    def present(self) -> Tensor:
        """Which channels hold anything."""

    def margin(self, volume: Tensor) -> Tensor:
        """The answer's margin (1,) for a changed volume; differentiable."""

    def blank(self) -> Tensor:
        """The volume with nothing in it."""


def integrated_gradients(question: Asked, steps: int = STEPS) -> Float[Tensor, " C *S"]:
    """Signed contributions on the straight way from the blank volume to the case (Sundararajan et al., ICML 2017).

    They add up to the difference of the margins where the answer is smooth. Behind a trunk it is not: a region counts
    from a probability of 0.3 on (`marked_mass`), and what such a jump adds has no gradient.
    """
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(question.margin, multiply_by_inputs=True)
    found = method.attribute(
        question.volume,
        baselines=question.blank(),
        n_steps=steps,
        method="riemann_middle",
        internal_batch_size=1,
    )
    return found[0].detach().float()


def smoothgrad(question: Asked, samples: int = NOISY_SAMPLES) -> Float[Tensor, " C *S"]:
    """Mean absolute gradient over noisy copies of the volume (Smilkov et al., 2017); the noise is always the same."""
    from captum.attr import NoiseTunnel, Saliency

    with torch.random.fork_rng(devices=[question.volume.device] if question.volume.is_cuda else []):
        torch.manual_seed(0)
        found = NoiseTunnel(Saliency(question.margin)).attribute(
            question.volume.clone(),
            nt_type="smoothgrad",
            nt_samples=samples,
            nt_samples_batch_size=1,
            stdevs=NOISE,
        )
    absolute = found[0].detach().float()
    return absolute * question.present[0].reshape(-1, *(1,) * (absolute.ndim - 1))


def occlusion(question: VolumeQuestion) -> Float[Tensor, "1 D H W"]:
    """How far the margin falls when a box of the head becomes the head's mean (Zeiler and Fergus, ECCV 2014).

    Boxes tile the head; all sequences are covered together. Only slices that a box touches are looked at again, some
    twenty times less work than a library's sliding window over the whole volume.
    """
    return occlusions([question])[0]


@torch.no_grad()
def occlusions(questions: Sequence[VolumeQuestion]) -> list[Float[Tensor, "1 D H W"]]:
    """Return `occlusion` of several questions about one case; each covered volume is looked at once for all."""
    question = questions[0]
    volume, head, blank = question.volume, question.head(), question.blank()
    full = [float(one.margin_of(question.seen, volume)) for one in questions]
    falls = volume.new_zeros(len(questions), *volume.shape[2:])
    size = volume.shape[2:]
    patch = (BOX_SLICES, size[1] // BOXES_A_SIDE, size[2] // BOXES_A_SIDE)
    for corner in _corners(size, patch):
        box = tuple(slice(start, start + edge) for start, edge in zip(corner, patch, strict=True))
        if not bool(head[box].any()):
            continue
        covered = volume.clone()
        depth, height, width = box
        covered[..., depth, height, width] = blank[..., depth, height, width]
        seen = question.look_again(covered)
        for row, one in enumerate(questions):
            falls[row][box] = full[row] - float(one.margin_of(seen, covered))
    return list((falls * head)[:, None])


def _corners(size: torch.Size, patch: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    depth, height, width = (range(0, n, edge) for n, edge in zip(size, patch, strict=True))
    return [(k, j, i) for k in depth for j in height for i in width]
