"""Weighing the losses of several tasks against each other while they are learned."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TaskBalance(nn.Module):
    """Sum of task losses, each divided by a learned uncertainty, which is itself paid for.

    Source: Kendall, Gal, Cipolla, "Multi-task learning using uncertainty to weigh losses", CVPR 2018.
    """

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(n_tasks))

    def forward(self, losses: Float[Tensor, " K"]) -> Float[Tensor, ""]:
        return (torch.exp(-self.log_variance) * losses + self.log_variance / 2).sum()
