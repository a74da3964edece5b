"""A joint space of the modalities: what belongs to one case lies close, what does not lies apart."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class JointSpace(nn.Module):
    """One linear map for each modality's embedding into a common space, on the unit sphere."""

    def __init__(self, width: int, n_modalities: int, joint_width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(width, joint_width) for _ in range(n_modalities)])
        self.log_scale = nn.Parameter(torch.tensor(2.66))  # of a temperature of 0.07, as in CLIP

    def forward(self, own: Float[Tensor, "B M F"]) -> Float[Tensor, "B M J"]:
        mapped = torch.stack([layer(own[:, index]) for index, layer in enumerate(self.maps)], dim=1)
        return functional.normalize(mapped, dim=-1)


def info_nce(
    left: Float[Tensor, "B J"], right: Float[Tensor, "B J"], log_scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return the cross-entropy of finding a case's right among the batch's, and its left, both ways.

    Source: van den Oord, Li, Vinyals 2018; symmetric as in Radford et al. (CLIP), ICML 2021.
    """
    logits = log_scale.clamp(max=4.6).exp() * left @ right.T
    truth = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2


def margin_loss(left: Float[Tensor, "B J"], right: Float[Tensor, "B J"], margin: float = 0.2) -> Float[Tensor, ""]:
    """Return by how much other cases come closer than `margin` behind the own one, both ways; 0 for a single case.

    Source: the hinge over pairs of Kiros, Salakhutdinov, Zemel 2014.
    """
    likeness = left @ right.T
    own = likeness.diagonal()
    others = ~torch.eye(len(likeness), dtype=torch.bool, device=likeness.device)
    behind = (margin + likeness - own[:, None]).clamp_min(0) + (margin + likeness - own[None]).clamp_min(0)
    return behind[others].sum() / max(1, 2 * int(others.sum()))


def joint_loss(
    joint: Float[Tensor, "B M J"], present: Bool[Tensor, "B M"], space: JointSpace, margin: float | None = None
) -> Float[Tensor, ""]:
    """Return the mean loss over all pairs of modalities, each over the cases that have both.

    Args:
        joint: What `space` gave.
        present: Which modalities a case has.
        space: For its scale.
        margin: For the margin loss; InfoNCE where None.
    """
    losses = []
    for first in range(joint.shape[1]):
        for second in range(first + 1, joint.shape[1]):
            both = present[:, first] & present[:, second]
            if int(both.sum()) > 1:
                left, right = joint[both, first], joint[both, second]
                losses.append(
                    info_nce(left, right, space.log_scale) if margin is None else margin_loss(left, right, margin)
                )
    return torch.stack(losses).mean() if losses else joint.sum() * 0
