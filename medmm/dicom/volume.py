"""From a series to one volume: sorted slices, physical values, RAS+."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmm.dicom import syntaxes
from medmm.dicom.decode import decode_frames
from medmm.dicom.discover import discover
from medmm.dicom.geometry import Canonical, StackGeometry, stack_geometry, to_canonical
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.pixels import has_physical_values, native_frame, write_frame
from medmm.dicom.source import open_regular
from medmm.dicom.types import Instance, Series, Slice
from medmm.errors import InputError
from medmm.types import Note, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """Where every slice of a series goes. `buffer_shape` is (slices, rows, columns)."""

    slices: tuple[Slice, ...]
    buffer_shape: tuple[int, int, int]
    geometry: StackGeometry
    canonical: Canonical


def read_volume(source: Series | str | Path, *, limits: Limits = DEFAULT_LIMITS) -> Volume:
    """Return one series as a volume: float32 (1, I, J, K) in RAS+, CT in Hounsfield units.

    Args:
        source: A series of `discover`, a folder that holds one series, a DICOM file, a NIfTI file, a PNG or JPEG.
        limits: Caps on sizes.
    Raises:
        InputError: Whatever makes the series unusable, with a code of `medmm.errors.CODES`.
    """
    if not isinstance(source, Series):
        path = Path(source)
        from medmm.images import is_image_file, read_image

        if is_image_file(path):
            return read_image(path, limits=limits)
        source = only_series(path, limits)
    plan = plan_reading(source, limits)
    buffer = np.empty(plan.buffer_shape, dtype=np.float32)
    fill(plan, range(len(plan.slices)), buffer)
    return finish(source, plan, buffer)


def only_series(path: Path, limits: Limits = DEFAULT_LIMITS) -> Series:
    """Return the series of a folder or file; of one that holds several volumes, the largest (then the first).

    Raises:
        InputError: series.none, series.choice, or the code of the one reason why nothing can be read.
    """
    found = discover(path, limits=limits)
    series = [item for study in found.studies for item in study.series]
    if not series:
        refused = [item for item in found.skipped if item.code]
        if len({item.code for item in refused}) == 1:
            raise InputError(refused[0].reason, code=refused[0].code)
        kinds = ", ".join(sorted({item.reason.split(".")[0] for item in found.skipped})[:5]) or "nothing"
        raise InputError(f"Expected a DICOM series (found: {kinds}).", code="series.none")
    if len({(item.study_uid, item.series_uid) for item in series}) > 1:
        raise InputError(
            f"Expected one series (found {len(series)}).",
            code="series.choice",
            remedy="Pass one of the series that medmm.discover lists.",
        )
    return max(series, key=lambda item: len(item.slices))


def plan_reading(series: Series, limits: Limits) -> ReadPlan:
    """Check that a series can be one volume, and say where each slice goes.

    Raises:
        InputError: series.*, dicom.*, limit.pixels.
    """
    if series.defects:
        raise InputError(
            f"Expected every file of the series to be readable ({len(series.defects)} are not; the first: "
            f"{series.defects[0].reason})",
            code=series.defects[0].code,
        )
    geometry = stack_geometry(series.slices)
    if geometry.gaps_mm:
        raise _gap_error(geometry.gaps_mm)
    ordered = tuple(series.slices[n] for n in geometry.order)
    first = ordered[0]
    size = first.frame.tile[2:] if first.frame.tile else (first.instance.pixels.rows, first.instance.pixels.columns)
    rows, columns = int(size[0]), int(size[1])
    if rows * columns * len(ordered) > limits.voxels:
        raise InputError(
            f"Expected at most {limits.voxels} voxels (got {rows} x {columns} x {len(ordered)}).", code="limit.pixels"
        )
    return ReadPlan(
        slices=ordered,
        buffer_shape=(len(ordered), rows, columns),
        geometry=geometry,
        canonical=to_canonical(geometry.affine_ras, (columns, rows, len(ordered))),
    )


def fill(plan: ReadPlan, numbers: Sequence[int], buffer: np.ndarray) -> None:
    """Read the slices with these numbers into their places in `buffer` (slices, rows, columns)."""
    flip_columns, flip_rows, flip_slices = plan.canonical.is_flipped
    view = buffer[:: -1 if flip_slices else 1, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    by_instance: dict[int, list[int]] = {}
    for number in numbers:
        by_instance.setdefault(id(plan.slices[number].instance), []).append(number)
    for members in by_instance.values():
        instance = plan.slices[members[0]].instance
        _fill_from(instance, [(plan.slices[number], view[number]) for number in members])


def _fill_from(instance: Instance, targets: list[tuple[Slice, np.ndarray]]) -> None:
    """Read one file's slices."""
    descriptor = open_regular(instance.path)
    try:
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (instance.size, instance.mtime_ns):
            raise InputError(
                "Expected the file as it was when it was found (it has changed since).",
                code="io.changed",
                remedy="Run discovery again.",
            )
        wanted = sorted({piece.frame.index for piece, _ in targets})
        frames = _stored_frames(descriptor, instance, wanted)
        for piece, out in targets:
            write_frame(frames[piece.frame.index], instance, piece.frame, out)
    finally:
        os.close(descriptor)


def _stored_frames(descriptor: int, instance: Instance, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    pixels = instance.pixels
    if instance.pixel_length < 0:
        return decode_frames(descriptor, instance, wanted)
    size = pixels.rows * pixels.columns * pixels.samples * pixels.bits_allocated // 8
    if pixels.transfer_syntax == syntaxes.DEFLATED:
        from medmm.dicom.source import read_header

        opened = read_header(instance.path, DEFAULT_LIMITS)
        assert opened.inflated is not None
        data = memoryview(opened.inflated)[instance.pixel_offset :]
        return {n: native_frame(data[n * size : (n + 1) * size], pixels) for n in wanted}
    frames = {}
    for n in wanted:
        raw = os.pread(descriptor, size, instance.pixel_offset + n * size)
        if len(raw) < size:
            raise InputError("Expected more pixels (the file ends before).", code="dicom.truncated")
        frames[n] = native_frame(raw, pixels)
    return frames


def finish(series: Series, plan: ReadPlan, buffer: np.ndarray) -> Volume:
    """Return the filled buffer as a volume in RAS+ with its notes.

    Raises:
        InputError: image.nonfinite.
    """
    notes = [*series.notes, *plan.geometry.notes]
    for piece in plan.slices:
        notes += piece.instance.notes
    is_float = plan.slices[0].instance.pixels.word != "pixel"
    if is_float and not np.isfinite(buffer).all():
        raise InputError("Expected finite voxels (got NaN or infinity).", code="image.nonfinite")
    if buffer.min() == buffer.max():
        notes.append(Note("image.constant", "Every voxel has the same value."))
    if len(plan.slices) == 1:
        notes.append(Note("series.too_few", "The volume has one slice."))
    axis_of = plan.canonical.axis_of
    is_hu = has_physical_values(plan.slices[0].instance)
    return Volume(
        voxels=buffer.transpose(2, 1, 0).transpose(axis_of)[None],
        affine_ras=plan.canonical.affine_ras if plan.geometry.has_geometry else _flat_affine(plan),
        modality=series.modality,
        unit="HU" if is_hu else "a.u.",
        notes=tuple(dict.fromkeys(notes)),
    )


def _flat_affine(plan: ReadPlan) -> np.ndarray:
    """Spacing only: an image without geometry has no origin to keep."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(np.linalg.norm(plan.canonical.affine_ras[:3, :3], axis=0))
    return affine


def _gap_error(gaps_mm: Sequence[float]) -> InputError:
    steps = sorted(gaps_mm)
    return InputError(
        f"Expected even slice spacing (got steps of {steps[0]:.2f} to {steps[-1]:.2f} mm, from (0020,0032) Image "
        "Position (Patient)).",
        code="series.gap",
        remedy="Export the series again, or allow resampling over the gaps.",
    )
