"""From any number of volumes to single images for an image network, and back: one image a slice (2D) or a series (3D).

A picture, a single DICOM image and a whole series come in alike, in whatever sizes. Images are turned as a radiologist
sees them: rows run to Inferior (or to Posterior in axial slices), columns to the patient's Left (or to Posterior in
sagittal ones).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medmm.errors import InputError
from medmm.preprocess import resize_axis
from medmm.types import Note, Volume

CENTRE, DEVIATION = 0.5, 0.25  # of intensities scaled to [0, 1]
PERCENTILES = (0.5, 99.5)
_WORD_AND_NUMBER = re.compile(r"([^0-9]*)([0-9]*)")


class ImagePreprocessing(BaseModel):
    """What an image network's input looks like. Part of every model directory.

    `size_pixels` is (rows, columns) for images of slices, (slices, rows, columns) for images of whole series.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    size_pixels: tuple[int, int] | tuple[int, int, int] = (224, 224)
    slices_per_series: int = Field(16, ge=1, description="2D only: of a longer series, so many slices evenly spaced")
    window_hu: tuple[float, float] | None = Field(
        None, description="for volumes in Hounsfield units; else percentiles of the volume"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGrid:
    """Where one series went: images `rows` of the batch, made of `slices` along `slice_axis` of the source.

    `source_shape` (I, J, K); `padded` (rows, columns) of the square, in millimetres, around a slice.
    """

    role: str
    rows: range
    slices: tuple[int, ...]
    slice_axis: int
    source_shape: tuple[int, int, int]
    padded: tuple[int, int]
    affine_ras: np.ndarray

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """Return values of this series' images, (n, h, w) or (1, d, h, w), as float32 (I, J, K) on the source grid.

        Linear between cell centres in a slice; a slice that no image shows takes the value of the nearest that one
        does.
        """
        depth = self.source_shape[self.slice_axis]
        n_columns, n_rows = (size for axis, size in enumerate(self.source_shape) if axis != self.slice_axis)
        shown = values.astype(np.float32)
        if shown.ndim == 4:
            shown = resize_axis(shown[0], 0, depth)
        else:
            nearest = np.abs(np.arange(depth)[:, None] - np.array(self.slices)[None]).argmin(axis=1)
            shown = shown[nearest]
        padded = resize_axis(resize_axis(shown, 1, self.padded[0]), 2, self.padded[1])
        top, left = (self.padded[0] - n_rows) // 2, (self.padded[1] - n_columns) // 2
        cut = padded[:, top : top + n_rows, left : left + n_columns]
        return np.ascontiguousarray(np.moveaxis(cut[:, ::-1, ::-1].transpose(0, 2, 1), 0, self.slice_axis))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImages:
    """Network input: `array` float32 (N, 1, H, W) or (N, 1, D, H, W), and where each series' images are in it."""

    array: np.ndarray
    grids: tuple[ImageGrid, ...]
    notes: tuple[Note, ...] = ()


def prepare_images(volumes: Mapping[str, Volume], spec: ImagePreprocessing) -> PreparedImages | None:
    """Return every volume of a case as images of one size, in order of their roles, or None where there is no volume.

    A volume of one intensity has nothing to show and is left out with a note.

    Raises:
        InputError: `image.nonfinite`; `image.constant` where no volume shows anything.
    """
    arrays: list[np.ndarray] = []
    grids: list[ImageGrid] = []
    notes: list[Note] = []
    count = 0
    for role, volume in sorted(volumes.items(), key=lambda item: natural_order(item[0])):
        notes.extend(volume.notes)
        scaled = _scaled(volume, role, spec)
        if scaled is None:
            notes.append(Note("image.constant", f"{role} has one intensity only and was left out."))
            continue
        images, grid = _images(scaled, volume, role, spec, count)
        arrays.append(images)
        grids.append(grid)
        count += len(images)
        if len(spec.size_pixels) == 2 and len(grid.slices) < volume.shape[grid.slice_axis]:
            notes.append(
                Note(
                    "series.choice", f"{len(grid.slices)} of {role}'s {volume.shape[grid.slice_axis]} slices were used."
                )
            )
    if volumes and not arrays:
        raise InputError("Expected an image (every volume has one intensity only).", code="image.constant")
    if not arrays:
        return None
    return PreparedImages(array=np.concatenate(arrays)[:, None], grids=tuple(grids), notes=tuple(dict.fromkeys(notes)))


def count_images(volumes: Mapping[str, Volume], spec: ImagePreprocessing) -> int:
    """Return how many images N `prepare_images` gives at most."""
    if len(spec.size_pixels) == 3:
        return len(volumes)
    return sum(min(volume.shape[slice_axis(volume)], spec.slices_per_series) for volume in volumes.values())


def slice_axis(volume: Volume) -> int:
    """Return the axis (0, 1 or 2) along which slices were acquired: the one that spares two others most alike in size.

    Pixels are square in nearly all acquisitions, so the odd edge is the distance between slices; of equal edges, the
    axis with the fewest voxels.
    """
    log_spacing = np.log(volume.spacing_mm)

    def unlikeness(axis: int) -> tuple[float, int]:
        first, second = (edge for other, edge in enumerate(log_spacing) if other != axis)
        return round(abs(first - second), 2), volume.shape[axis]

    return min(range(3), key=unlikeness)


def natural_order(name: str) -> tuple[tuple[str, int], ...]:
    """Sort key that puts `image-2` before `image-10`."""
    return tuple((word, int(number or -1)) for word, number in _WORD_AND_NUMBER.findall(name))


def _scaled(volume: Volume, role: str, spec: ImagePreprocessing) -> np.ndarray | None:
    """Intensities (I, J, K) of the first channel: [0, 1] within the window, then centred; None without contrast."""
    voxels = volume.voxels[0]
    if not np.isfinite(voxels).all():
        raise InputError(f"Expected finite voxels in {role} (got NaN or infinity).", code="image.nonfinite")
    if voxels.min() == voxels.max():
        return None
    if spec.window_hu is not None and volume.unit == "HU":
        low, high = spec.window_hu
    else:
        low, high = (float(edge) for edge in np.percentile(voxels, PERCENTILES))
        if low == high:  # a few marks on nothing
            low, high = float(voxels.min()), float(voxels.max())
    return (((np.clip(voxels, low, high) - low) / (high - low) - CENTRE) / DEVIATION).astype(np.float32)


def _images(
    voxels: np.ndarray, volume: Volume, role: str, spec: ImagePreprocessing, first_row: int
) -> tuple[np.ndarray, ImageGrid]:
    axis = slice_axis(volume)
    shown = np.moveaxis(voxels, axis, 0).transpose(0, 2, 1)[:, ::-1, ::-1]  # (slices, rows, columns)
    depth, n_rows, n_columns = shown.shape
    column_mm, row_mm = (edge for other, edge in enumerate(volume.spacing_mm) if other != axis)
    edge_mm = max(n_rows * row_mm, n_columns * column_mm)
    padded = (max(n_rows, round(edge_mm / row_mm)), max(n_columns, round(edge_mm / column_mm)))
    is_2d = len(spec.size_pixels) == 2
    slices = _spread(depth, spec.slices_per_series) if is_2d else tuple(range(depth))
    top, left = (padded[0] - n_rows) // 2, (padded[1] - n_columns) // 2
    borders = ((0, 0), (top, padded[0] - n_rows - top), (left, padded[1] - n_columns - left))
    square = np.pad(shown[list(slices)], borders, constant_values=float(voxels.min()))
    for square_axis, size in zip((1, 2), spec.size_pixels[-2:], strict=True):
        square = resize_axis(square, square_axis, size)
    if not is_2d:
        square = resize_axis(square, 0, spec.size_pixels[0])[None]
    grid = ImageGrid(
        role=role,
        rows=range(first_row, first_row + len(square)),
        slices=slices,
        slice_axis=axis,
        source_shape=volume.shape,
        padded=padded,
        affine_ras=volume.affine_ras,
    )
    return square.astype(np.float32), grid


def _spread(depth: int, count: int) -> tuple[int, ...]:
    """At most `count` of `depth` slices: all, or the middles of as many equal parts."""
    if depth <= count:
        return tuple(range(depth))
    return tuple(int((part + 0.5) * depth / count) for part in range(count))
