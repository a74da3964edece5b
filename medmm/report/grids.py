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


def values_on_grid(
    values: np.ndarray, affine_ras: np.ndarray, grid: DisplayGrid, how: Literal["mean", "max"]
) -> np.ndarray:
    """Values (I, J, K) on a display grid: merged where they have its source grid, else the nearest by position.

    Outside the volume that the values belong to, they are 0.
    """
    if values.shape == grid.shape and np.allclose(affine_ras, grid.affine_ras, atol=1e-3):
        return merge_blocks(values, grid.factors, how)
    to_values = np.linalg.inv(affine_ras) @ grid.display_affine_ras
    axes = [np.arange(count) for count in grid.display_shape]
    inside = np.ones(grid.display_shape, dtype=bool)
    index = []
    for row, count in zip(to_values[:3], values.shape, strict=True):
        place = (
            row[0] * axes[0][:, None, None] + row[1] * axes[1][None, :, None] + row[2] * axes[2][None, None, :] + row[3]
        )
        nearest = np.rint(place).astype(np.intp)
        inside &= (nearest >= 0) & (nearest < count)
        index.append(np.clip(nearest, 0, count - 1))
    return np.where(inside, values[index[0], index[1], index[2]], values.dtype.type(0))


def index_on_grid(position_ras_mm: tuple[float, float, float], grid: DisplayGrid) -> list[int] | None:
    """The block (i, j, k) that holds a position, or None where it lies outside the volume."""
    place = np.linalg.inv(grid.affine_ras) @ np.array([*position_ras_mm, 1.0])
    index = np.rint(place[:3]).astype(int)
    if (index < 0).any() or (index >= grid.shape).any():
        return None
    return [int(part) // factor for part, factor in zip(index, grid.factors, strict=True)]
