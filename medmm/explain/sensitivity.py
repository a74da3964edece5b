"""Volume methods that ask the whole model: integrated gradients, SmoothGrad, occlusion. Many passes, on demand."""

import torch
from jaxtyping import Float
from torch import Tensor

from medmm.explain.question import VolumeQuestion

STEPS = 8
NOISY_SAMPLES = 8
NOISE = 0.15  # of the head's deviation, which is 1 after standardising
BOX_SLICES = 3
BOXES_A_SIDE = 8  # of a slice


def integrated_gradients(question: VolumeQuestion, steps: int = STEPS) -> Float[Tensor, "C D H W"]:
    """Signed contributions on the straight way from the blank head to the case (Sundararajan et al., ICML 2017).

    They would add up to the difference of the margins, if the answer were smooth. It is not: a region counts from a
    probability of 0.3 on (`marked_mass`), and what such a jump adds has no gradient.
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


def smoothgrad(question: VolumeQuestion, samples: int = NOISY_SAMPLES) -> Float[Tensor, "C D H W"]:
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
    return found[0].detach().float() * question.present[0, :, None, None, None]


@torch.no_grad()
def occlusion(question: VolumeQuestion) -> Float[Tensor, "1 D H W"]:
    """How far the margin falls when a box of the head becomes the head's mean (Zeiler and Fergus, ECCV 2014).

    Boxes tile the head; all sequences are covered together. Only slices that a box touches are looked at again, some
    twenty times less work than a library's sliding window over the whole volume.
    """
    volume, head, blank = question.volume, question.head(), question.blank()
    full = float(question.margin_of(question.seen, volume))
    falls = torch.zeros_like(volume[0, 0])
    size = volume.shape[2:]
    patch = (BOX_SLICES, size[1] // BOXES_A_SIDE, size[2] // BOXES_A_SIDE)
    for corner in _corners(size, patch):
        box = tuple(slice(start, start + edge) for start, edge in zip(corner, patch, strict=True))
        if not bool(head[box].any()):
            continue
        covered = volume.clone()
        depth, height, width = box
        covered[..., depth, height, width] = blank[..., depth, height, width]
        falls[box] = full - float(question.margin_of(question.look_again(covered), covered))
    return (falls * head)[None]


def _corners(size: torch.Size, patch: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    depth, height, width = (range(0, n, edge) for n, edge in zip(size, patch, strict=True))
    return [(k, j, i) for k in depth for j in height for i in width]
