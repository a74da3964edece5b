"""Where slices lie: order along the normal, even spacing, shear, and the affine from voxel index to RAS millimetres."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from medmm.dicom import tags
from medmm.dicom.attributes import missing
from medmm.dicom.types import Slice
from medmm.errors import InputError
from medmm.types import Note

SPACING_TOLERANCE_MM = 0.1  # between the largest and the smallest step; scanners print positions to 0.1 mm at worst
_RELATIVE_TOLERANCE = 0.25  # of the step, for stacks finer than 0.4 mm
_IN_PLANE_TOLERANCE_MM = 0.1  # from the straight line through the slice corners
_TILT_NOTE_DEG = 0.5
_SAME_PLACE_MM = 1e-3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class StackGeometry:
    """The grid of a stack. `order` sorts the slices; `affine_ras` maps (column, row, slice) to mm."""

    order: tuple[int, ...]
    affine_ras: np.ndarray
    gaps_mm: tuple[float, ...] = ()  # steps between neighbours where they are not even
    offsets_mm: tuple[float, ...] = ()  # of every slice from the first, along the normal, where uneven
    has_geometry: bool = True
    notes: tuple[Note, ...] = ()


def stack_geometry(slices: Sequence[Slice]) -> StackGeometry:
    """Return the order and the grid of slices that share size, orientation and pixel spacing.

    Raises:
        InputError: dicom.missing_tag, series.duplicate, series.mixed. Uneven spacing is returned, not raised.
    """
    frames = [piece.frame for piece in slices]
    if not frames[0].position or not frames[0].orientation:
        return _without_geometry(slices)
    if not frames[0].spacing:
        raise missing(tags.PIXEL_SPACING)
    row, column, normal = axes(frames[0].orientation)
    positions = np.array([frame.position for frame in frames])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    positions, along = positions[order], along[order]
    steps = np.diff(along)
    step_vector, notes, uneven = normal * _thickness(slices[0]), [], False
    if len(frames) > 1:
        uneven = _is_uneven(steps)
        step_vector = (positions[-1] - positions[0]) / (len(frames) - 1)
        _check_straight(positions, along)
        notes += _tilt_notes(step_vector, normal, slices[0].instance.header.gantry_tilt_deg)
    spacing = frames[0].spacing
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ np.column_stack([row * spacing[1], column * spacing[0], step_vector])
    affine[:3, 3] = _LPS_TO_RAS @ positions[0]
    return StackGeometry(
        order=tuple(int(n) for n in order),
        affine_ras=affine,
        gaps_mm=tuple(float(step) for step in steps) if uneven else (),
        offsets_mm=tuple(float(value) for value in along - along[0]) if uneven else (),
        notes=tuple(notes),
    )


def axes(orientation: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors (3,) along a row, along a column, and normal to both, in LPS."""
    row, column = np.array(orientation[:3], dtype=float), np.array(orientation[3:], dtype=float)
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """How source axes (column, row, slice) become RAS+: `axis_of[n]` is the source axis of output axis n."""

    axis_of: tuple[int, int, int]
    is_flipped: tuple[bool, bool, bool]  # per source axis
    affine_ras: np.ndarray


def to_canonical(affine_ras: np.ndarray, shape: tuple[int, int, int]) -> Canonical:
    """Return the axis permutation and flips that bring a grid closest to RAS+, and the affine after them.

    Args:
        affine_ras: (4, 4), from source index to mm.
        shape: Voxels along the source axes.
    """
    direction = affine_ras[:3, :3] / np.linalg.norm(affine_ras[:3, :3], axis=0)
    best = max(permutations(range(3)), key=lambda order: sum(abs(direction[n, order[n]]) for n in range(3)))
    flips = [False, False, False]
    transform = np.zeros((4, 4))
    transform[3, 3] = 1
    for output, source in enumerate(best):
        flips[source] = bool(direction[output, source] < 0)
        transform[source, output] = -1 if flips[source] else 1
        transform[source, 3] = shape[source] - 1 if flips[source] else 0
    return Canonical(
        axis_of=(best[0], best[1], best[2]),
        is_flipped=(flips[0], flips[1], flips[2]),
        affine_ras=affine_ras @ transform,
    )


def _without_geometry(slices: Sequence[Slice]) -> StackGeometry:
    """A single image that does not say where it lies: taken as axial, at the origin (documented, noted)."""
    spacing = slices[0].frame.spacing
    affine = np.diag([-(spacing[1] if spacing else 1.0), -(spacing[0] if spacing else 1.0), 1.0, 1.0])
    size = "with its pixel spacing" if spacing else "with voxels of 1 mm"
    message = f"The image does not say where it lies: it was taken as axial, at the origin, {size}."
    return StackGeometry(
        order=tuple(range(len(slices))),
        affine_ras=affine,
        has_geometry=False,
        notes=(Note("dicom.missing_tag", message),),
    )


def _thickness(piece: Slice) -> float:
    header = piece.instance.header
    value = header.spacing_between_slices_mm or header.slice_thickness_mm or 1.0
    return value if value > 0 else 1.0


def _is_uneven(steps: np.ndarray) -> bool:
    """Whether steps between neighbours (N - 1,), in mm, differ by more than rounding.

    Raises:
        InputError: series.duplicate when two slices share a place.
    """
    if steps.min() < _SAME_PLACE_MM:
        raise InputError(
            "Expected one slice at each position (got several, with nothing that tells them apart).",
            code="series.duplicate",
            remedy="Export the series again.",
        )
    tolerance = min(SPACING_TOLERANCE_MM + 1e-3, _RELATIVE_TOLERANCE * float(np.median(steps)))
    return bool(np.ptp(steps) > tolerance)


def _check_straight(positions: np.ndarray, along: np.ndarray) -> None:
    """Corners (N, 3) of sorted slices must lie on the line from the first to the last.

    Raises:
        InputError: series.mixed.
    """
    drift = positions - positions[0]
    share = (along - along[0]) / (along[-1] - along[0])
    if np.abs(drift - share[:, None] * drift[-1]).max() > _IN_PLANE_TOLERANCE_MM:
        raise InputError(
            "Expected slices along one straight line (got corners that leave it, from (0020,0032) Image Position "
            "(Patient)).",
            code="series.mixed",
            remedy="Export the parts of the series separately.",
        )


def _tilt_notes(step: np.ndarray, normal: np.ndarray, stated_deg: float | None) -> list[Note]:
    cosine = float(np.clip(abs(step @ normal) / np.linalg.norm(step), 0, 1))
    angle = float(np.degrees(np.arccos(cosine)))
    if angle < _TILT_NOTE_DEG:
        return []
    stated = "" if not stated_deg else f" (0018,1120) says {stated_deg:g} degrees;"
    message = f"The slices are sheared by {angle:.1f} degrees (gantry tilt);{stated} the affine holds the shear."
    return [Note("series.tilt", message)]
