"""What is read where: the plan of one volume, its files, and the buffer once it is filled."""

from dataclasses import dataclass

import numpy as np

from medmm.dicom.geometry import Canonical, StackGeometry
from medmm.dicom.types import Instance, Slice


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """Where every slice of a series goes. `buffer_shape` is (slices, rows, columns)."""

    slices: tuple[Slice, ...]
    buffer_shape: tuple[int, int, int]
    geometry: StackGeometry
    canonical: Canonical

    @property
    def flips(self) -> tuple[bool, bool, bool]:
        """Which axes of the buffer run backwards."""
        flip_columns, flip_rows, flip_slices = self.canonical.is_flipped
        return flip_slices, flip_rows, flip_columns

    def view(self, buffer: np.ndarray) -> np.ndarray:
        """The buffer as the source numbers its slices, rows and columns."""
        return buffer[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]


@dataclass(frozen=True, slots=True)
class FileJob:
    """The slices of one file: (position in its frames, place in the buffer)."""

    instance: Instance
    targets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """The buffer (slices, rows, columns) float32, every slice in its place, and its range of values."""

    buffer: np.ndarray
    low: float
    high: float
