"""Measures of a heatmap: deletion and insertion curves, likeness of two maps, and agreement with a known mask.

Deletion and insertion after Petsiuk et al., RISE, BMVC 2018; randomisation after Adebayo et al., NeurIPS 2018; pointing
game after Zhang et al., ECCV 2016.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor
from torch.nn import functional

from medmm.explain.question import VolumeQuestion

FRACTIONS = (0.02, 0.1, 0.4)  # of the head's blocks; each step counts alike
BLOCK = 4  # cells of a slice, the resolution of the trunk's features


@dataclass(frozen=True, slots=True)
class Curves:
    """Mean probability (L,) of each task over the steps: while blocks are taken away, and while they are put back."""

    deletion: Mapping[str, np.ndarray]
    insertion: Mapping[str, np.ndarray]


def curves(question: VolumeQuestion, order: np.ndarray) -> Curves:
    """Take the head's blocks away in an order, and put them back into a blank head in the same order.

    Args:
        question: The case; every task is asked.
        order: Blocks, most important first, as rows of `block_table`.
    """
    table, head, blank = block_table(question), question.head(), question.blank()
    gone: list[dict[str, Tensor]] = []
    back: list[dict[str, Tensor]] = []
    for fraction in FRACTIONS:
        marked = _cells_of(table[order[: max(1, round(len(order) * fraction))]], head)
        gone.append(question.chances(torch.where(marked, blank, question.volume)))
        back.append(question.chances(torch.where(marked, question.volume, blank)))
    return Curves(deletion=_means(gone), insertion=_means(back))


def block_table(question: VolumeQuestion) -> np.ndarray:
    """Places (N, 3) of the head's blocks on the grid (D, H/4, W/4): those of which at least half is head."""
    share = functional.avg_pool2d(question.head().float(), BLOCK)
    return (share >= 0.5).nonzero().cpu().numpy()


def order_by_map(
    contributions: Float[Tensor, "S D H W"], question: VolumeQuestion, rng: np.random.Generator
) -> np.ndarray:
    """Rows of `block_table` by what a map gives them, strongest first; equal ones in random order."""
    pooled = in_blocks(contributions).cpu().numpy()
    values = pooled[tuple(block_table(question).T)]
    return np.lexsort((rng.permutation(len(values)), -values))


def in_blocks(contributions: Float[Tensor, "S D H W"]) -> Float[Tensor, "D h w"]:
    """What spoke for the answer, summed over sequences, mean over each block."""
    return functional.avg_pool2d(contributions.float().clamp_min(0).sum(dim=0), BLOCK)


def likeness(first: Float[Tensor, "S D H W"], second: Float[Tensor, "S D H W"], head: Bool[Tensor, "D H W"]) -> float:
    """Spearman's rank correlation of two maps over the head's blocks; 0 where one of them is the same everywhere."""
    rows = functional.avg_pool2d(head.float(), BLOCK) >= 0.5
    a, b = in_blocks(first)[rows].cpu().numpy(), in_blocks(second)[rows].cpu().numpy()
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def points_into(values: np.ndarray, mask: np.ndarray) -> bool:
    """Pointing game: whether the largest value lies in the mask. Both (I, J, K)."""
    return bool(mask.flat[int(np.argmax(values))])


def mass_in(values: np.ndarray, mask: np.ndarray) -> float:
    """Share of the positive attribution that lies in the mask; NaN where there is none."""
    positive = np.clip(values, 0, None)
    total = float(positive.sum(dtype=np.float64))
    return float(positive[mask > 0].sum(dtype=np.float64)) / total if total > 0 else float("nan")


def _cells_of(blocks: np.ndarray, head: Bool[Tensor, "D H W"]) -> Bool[Tensor, "D H W"]:
    depth, height, width = head.shape
    marked = torch.zeros(depth, height // BLOCK, width // BLOCK, dtype=torch.bool, device=head.device)
    marked[tuple(torch.from_numpy(blocks.T))] = True
    return marked.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2) & head


def _means(steps: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    return {name: torch.stack([step[name] for step in steps]).mean(dim=0).numpy() for name in steps[0]}
