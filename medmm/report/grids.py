"""Grids for display: fewer voxels where a file must stay small, and masks carried between series by position."""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

Factors = tuple[int, int, int]


def is_placed(affine_ras: np.ndarray, shape: tuple[int, ...]) -> bool:
    """False for single pictures (PNG, JPEG): their affine is the identity because neither side nor size is known."""
    return not (shape[2] == 1 and np.array_equal(affine_ras, np.eye(4)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayGrid:
    """A source grid with `factors` voxels of each axis merged into one; the last block may be partly empty."""

    shape: tuple[int, int, int]
    affine_ras: np.ndarray
    factors: Factors

    @property
    def display_shape(self) -> tuple[int, int, int]:
        """Blocks along (I, J, K)."""
        i, j, k = (-(-count // factor) for count, factor in zip(self.shape, self.factors, strict=True))
        return i, j, k

    @property
    def display_affine_ras(self) -> np.ndarray:
        """Maps a block's index to the position of its centre, mm."""
        blocks = np.diag([*map(float, self.factors), 1.0])
        blocks[:3, 3] = [(factor - 1) / 2 for factor in self.factors]
        return self.affine_ras @ blocks


def choose_factors(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], max_voxels: float) -> Factors:
    """Return the smallest merging that keeps a volume within `max_voxels`, coarsening the finest axes first."""
    factors = [1, 1, 1]

    def voxel_count() -> int:
        return int(np.prod([-(-count // factor) for count, factor in zip(shape, factors, strict=True)]))

    while voxel_count() > max_voxels:
        edges = [
            spacing * factor if count > factor else np.inf
            for spacing, factor, count in zip(spacing_mm, factors, shape, strict=True)
        ]
        finest = min(edges)
        # Axes of nearly the same spacing go together: pixels stay as square as they were.
        for axis, edge in enumerate(edges):
            if edge <= 1.1 * finest:
                factors[axis] += 1
    return factors[0], factors[1], factors[2]


def merge_blocks(array: np.ndarray, factors: Factors, how: Literal["mean", "max"]) -> np.ndarray:
    """The array (I, J, K) with blocks of `factors` voxels merged; edge blocks are filled up with edge voxels."""
    if factors == (1, 1, 1):
        return array
    padding = [(0, -count % factor) for count, factor in zip(array.shape, factors, strict=True)]
    padded = np.pad(array, padding, mode="edge") if any(more for _, more in padding) else array
    # Axis by axis, slowest first: whole planes are added, which streams through memory.
    merged = padded.astype(np.float32, copy=False) if how == "mean" else padded
    for axis, factor in enumerate(factors):
        parts = [merged[(slice(None),) * axis + (slice(place, None, factor),)] for place in range(factor)]
        merged = functools.reduce(np.add if how == "mean" else np.maximum, parts)
    return merged / np.float32(np.prod(factors)) if how == "mean" else merged


def mask_on_grid(mask: np.ndarray, mask_affine_ras: np.ndarray, grid: DisplayGrid) -> np.ndarray:
    """The mask (I, J, K) on a display grid: merged where it has the same source grid, else nearest by position."""
    if mask.shape == grid.shape and np.allclose(mask_affine_ras, grid.affine_ras, atol=1e-3):
        return merge_blocks(mask, grid.factors, "max")
    to_mask = np.linalg.inv(mask_affine_ras) @ grid.display_affine_ras
    axes = [np.arange(count) for count in grid.display_shape]
    inside = np.ones(grid.display_shape, dtype=bool)
    index = []
    for row, count in zip(to_mask[:3], mask.shape, strict=True):
        place = (
            row[0] * axes[0][:, None, None] + row[1] * axes[1][None, :, None] + row[2] * axes[2][None, None, :] + row[3]
        )
        nearest = np.rint(place).astype(np.intp)
        inside &= (nearest >= 0) & (nearest < count)
        index.append(np.clip(nearest, 0, count - 1))
    return np.where(inside, mask[index[0], index[1], index[2]], 0).astype(np.uint8)
