"""Inputs changed by the least that hurts: to train against, or to see how far an answer can be pushed."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Loss = Callable[[Tensor], Tensor]


def fgsm(values: Float[Tensor, "*S"], loss: Loss, epsilon: float) -> Float[Tensor, "*S"]:
    """Return the input one step uphill, by `epsilon` in every element (Goodfellow, Shlens, Szegedy, ICLR 2015).

    Args:
        values: Volumes, pictures or embeddings; not changed.
        loss: The loss as a function of the input.
        epsilon: In units of the input (deviations, for standardised volumes).
    """
    return values + epsilon * _uphill(values, loss).sign()


def pgd(
    values: Float[Tensor, "*S"], loss: Loss, epsilon: float, *, n_steps: int = 5, step: float | None = None
) -> Float[Tensor, "*S"]:
    """Return the input after several steps uphill, never further than `epsilon` (Madry et al., ICLR 2018).

    Args:
        values: As for `fgsm`.
        loss: As for `fgsm`.
        epsilon: Furthest change of an element.
        n_steps: How many.
        step: Length of one; 2.5 epsilon over the steps by default, as in the paper.
    """
    length = 2.5 * epsilon / n_steps if step is None else step
    changed = values.detach()
    for _ in range(n_steps):
        changed = changed + length * _uphill(changed, loss).sign()
        changed = values + (changed - values).clamp(-epsilon, epsilon)
    return changed.detach()


def embedding_noise(states: Float[Tensor, "*S F"], loss: Loss, epsilon: float) -> Float[Tensor, "*S F"]:
    """Return word states one step uphill, by a share `epsilon` of their lengths (after Miyato et al., ICLR 2017)."""
    gradient = _uphill(states, loss)
    direction = gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return states + epsilon * states.detach().norm(dim=-1, keepdim=True) * direction


def _uphill(values: Tensor, loss: Loss) -> Tensor:
    with torch.enable_grad():
        leaf = values.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)[0]
