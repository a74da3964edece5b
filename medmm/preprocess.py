"""From volumes on scanner grids to the network's grid, and back again.

The network sees axial slices on a square grid: `(C, D, H, W)` with C the model's sequences, D towards Superior, H
towards Anterior, W towards Right (RAS+ order reversed, so that W is the fastest axis). The way back is exact up to the
resampling: `ModelGrid.to_source` puts values of the network's grid on the source grid, where heatmaps and masks belong.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from medmm.errors import InputError
from medmm.types import Note, Volume

ROUNDING = 1e-5  # resampling in float32 turns one intensity into several that differ by less than this share


class Preprocessing(BaseModel):
    """What the network's input looks like. Part of every model directory."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    roles: tuple[str, ...] = Field(description="sequences in the order of the network's channels")
    reference_order: tuple[str, ...] = Field(description="whose grid is used: the first of these that is present")
    size_pixels: int = Field(128, ge=16, le=1024, multiple_of=4, description="edge of the square in-plane grid")
    min_slice_spacing_mm: float = Field(2.0, gt=0, description="thinner slices are averaged up to this distance")
    min_slices: int = Field(3, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGrid:
    """How the network's grid (D, H, W) lies in the source grid (I, J, K) of volume `role`."""

    role: str
    source_shape: tuple[int, int, int]
    affine_ras: np.ndarray
    padded_ij: tuple[int, int]
    shape: tuple[int, int, int]

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """Return values (D, H, W) as float32 (I, J, K) on the source grid, linear between the grid's cell centres."""
        i, j, k = self.source_shape
        along_k = resize_axis(values.astype(np.float32), 0, k)
        along_j = resize_axis(along_k, 1, self.padded_ij[1])
        padded = resize_axis(along_j, 2, self.padded_ij[0])
        start_i, start_j = (self.padded_ij[0] - i) // 2, (self.padded_ij[1] - j) // 2
        return np.ascontiguousarray(padded[:, start_j : start_j + j, start_i : start_i + i].transpose(2, 1, 0))

    def to_volume(self, values: np.ndarray, volume: Volume) -> np.ndarray:
        """Return values (D, H, W) as float32 on the grid of another series of the case; 0 outside what was seen."""
        on_source = self.to_source(values)
        return _resample(on_source, self.affine_ras, volume.shape, volume.affine_ras)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedVolume:
    """Network input: `array` float32 (C, D, H, W), 0 in absent channels; `present` bool (C,)."""

    array: np.ndarray
    present: np.ndarray
    grid: ModelGrid
    notes: tuple[Note, ...] = ()


def prepare_volume(volumes: Mapping[str, Volume], spec: Preprocessing) -> PreparedVolume | None:
    """Return the sequences that the model knows on its own grid, or None where the case has none of them.

    Each sequence is brought to the grid of the reference sequence (linear, in world space), padded to a square in
    millimetres, averaged down to `size_pixels`, and standardised by the mean and deviation inside the head.

    Raises:
        InputError: `series.too_few` below `min_slices`; `image.constant` and `image.nonfinite` for unusable voxels.
    """
    reference_role = _reference_role(volumes, spec)
    if reference_role is None:
        return None
    reference = volumes[reference_role]
    grid = _model_grid(reference, reference_role, spec)
    channels: list[np.ndarray] = []
    notes: list[Note] = []
    for role in spec.roles:
        if role not in volumes:
            channels.append(np.zeros(grid.shape, dtype=np.float32))
            continue
        _check_finite(volumes[role].voxels, role)
        voxels = _on_grid_of(volumes[role], reference)
        channels.append(standardise(_to_model_grid(voxels, grid), role=role))
        notes.extend(volumes[role].notes)
    present = np.array([role in volumes for role in spec.roles])
    return PreparedVolume(array=np.stack(channels), present=present, grid=grid, notes=tuple(dict.fromkeys(notes)))


def count_slices(volumes: Mapping[str, Volume], spec: Preprocessing) -> int:
    """Return how many slices D `prepare_volume` will give; 0 where the case has no volume for the model."""
    role = _reference_role(volumes, spec)
    return 0 if role is None else _depth(volumes[role], spec)


def _reference_role(volumes: Mapping[str, Volume], spec: Preprocessing) -> str | None:
    return next((role for role in spec.reference_order if role in volumes), None)


def region_to_model_grid(mask: np.ndarray, grid: ModelGrid) -> np.ndarray:
    """Return a mask (I, J, K) of the source grid as uint8 (D, H, W): cells of which at least half is marked."""
    if mask.shape != grid.source_shape:
        raise ValueError(f"Expected a mask on the source grid {grid.source_shape} (got {mask.shape}).")
    return (_to_model_grid((mask > 0).astype(np.float32), grid) >= 0.5).astype(np.uint8)


def standardise(voxels: np.ndarray, *, role: str) -> np.ndarray:
    """Return intensities with mean 0 and deviation 1 inside the head (voxels above the volume's mean), cut at -5 and 8.

    MR intensities have no unit; the head is used, not the whole field of view, because the share of air differs
    between protocols.

    Raises:
        InputError: If the voxels are not finite, or all equal.
    """
    _check_finite(voxels, role)
    head = voxels[voxels > voxels.mean()]
    deviation = float(head.std()) if head.size else 0.0
    if deviation <= ROUNDING * float(np.abs(voxels).max()):
        raise InputError(f"Expected an image in {role} (got one intensity only).", code="image.constant")
    return np.clip((voxels - float(head.mean())) / deviation, -5, 8).astype(np.float32)


def _check_finite(voxels: np.ndarray, role: str) -> None:
    if not np.isfinite(voxels).all():
        raise InputError(f"Expected finite voxels in {role} (got NaN or infinity).", code="image.nonfinite")


def _model_grid(reference: Volume, role: str, spec: Preprocessing) -> ModelGrid:
    i, j, k = reference.shape
    spacing_i, spacing_j, _ = reference.spacing_mm
    if k < spec.min_slices:
        raise InputError(
            f"Expected at least {spec.min_slices} axial slices in {role} (got {k}).",
            code="series.too_few",
            remedy="Export the complete series.",
        )
    edge_mm = max(i * spacing_i, j * spacing_j)
    padded = (max(i, round(edge_mm / spacing_i)), max(j, round(edge_mm / spacing_j)))
    return ModelGrid(
        role=role,
        source_shape=reference.shape,
        affine_ras=reference.affine_ras,
        padded_ij=padded,
        shape=(_depth(reference, spec), spec.size_pixels, spec.size_pixels),
    )


def _depth(reference: Volume, spec: Preprocessing) -> int:
    k, spacing_k = reference.shape[2], reference.spacing_mm[2]
    depth = k if spacing_k >= spec.min_slice_spacing_mm else round(k * spacing_k / spec.min_slice_spacing_mm)
    return max(depth, spec.min_slices)


def _on_grid_of(volume: Volume, reference: Volume) -> np.ndarray:
    """Voxels (I, J, K) of the first channel on the grid of the reference; 0 outside."""
    return _resample(volume.voxels[0], volume.affine_ras, reference.shape, reference.affine_ras)


def _resample(
    voxels: np.ndarray, affine_ras: np.ndarray, shape: tuple[int, int, int], onto_ras: np.ndarray
) -> np.ndarray:
    """Voxels (I, J, K) on another grid, linear in world space where the two differ; 0 outside."""
    if voxels.shape == shape and np.allclose(affine_ras, onto_ras, atol=1e-2):
        return voxels
    to_index = np.linalg.inv(affine_ras) @ onto_ras
    return ndimage.affine_transform(
        voxels, to_index[:3, :3], to_index[:3, 3], output_shape=shape, order=1, mode="constant"
    )


def _to_model_grid(voxels: np.ndarray, grid: ModelGrid) -> np.ndarray:
    i, j, _ = grid.source_shape
    start_i, start_j = (grid.padded_ij[0] - i) // 2, (grid.padded_ij[1] - j) // 2
    pad = (
        (start_i, grid.padded_ij[0] - i - start_i),
        (start_j, grid.padded_ij[1] - j - start_j),
        (0, 0),
    )
    array = np.pad(voxels, pad, constant_values=float(voxels.min())).transpose(2, 1, 0)
    for axis, size in enumerate(grid.shape):
        array = resize_axis(array, axis, size)
    return array.astype(np.float32)


def resize_axis(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Resize one axis edge to edge: mean over the covered cells when shrinking, linear between centres when growing."""
    old = array.shape[axis]
    if old == size:
        return array
    weights = _mean_weights(old, size) if size < old else _linear_weights(old, size)
    return np.moveaxis(np.tensordot(array, weights, axes=(axis, 1)), -1, axis)


def _mean_weights(old: int, new: int) -> np.ndarray:
    """(new, old) matrix: each new cell is the mean of the old cells that it covers, by the covered share."""
    edges = np.linspace(0, old, new + 1)
    low, high = edges[:-1, None], edges[1:, None]
    cells = np.arange(old)[None, :]
    overlap = np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _linear_weights(old: int, new: int) -> np.ndarray:
    """(new, old) matrix of linear interpolation between cell centres, constant beyond the outer centres."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(np.floor(centres).astype(int), max(old - 2, 0))
    share = (centres - low).astype(np.float32)
    weights = np.zeros((new, old), dtype=np.float32)
    weights[np.arange(new), low] = 1 - share
    weights[np.arange(new), np.minimum(low + 1, old - 1)] += share
    return weights
