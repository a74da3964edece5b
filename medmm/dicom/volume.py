"""From a series to one volume: sorted slices, physical values, RAS+."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from medmm.dicom.discover import discover
from medmm.dicom.filling import fill
from medmm.dicom.gaps import resample_gaps
from medmm.dicom.geometry import stack_geometry, to_canonical
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.pixels import has_physical_values
from medmm.dicom.plan import Filled, ReadPlan
from medmm.dicom.types import Series
from medmm.errors import InputError
from medmm.types import Note, Volume


def read_volume(
    source: Series | str | Path,
    *,
    gaps: Literal["refuse", "resample"] = "refuse",
    workers: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Volume:
    """Return one series as a volume: float32 (1, I, J, K) in RAS+, CT in Hounsfield units.

    Args:
        source: A series of `discover`, a folder that holds one series, a DICOM file, a NIfTI file, a PNG or JPEG.
        gaps: What to do with missing or unevenly spaced slices: refuse (series.gap), or interpolate onto an even grid
            with a note that gives the steps in mm.
        workers: Decode processes; None takes one for each core that has enough to do. 0 decodes in this process,
            without protection against crashes and hangs: for trusted files only.
        limits: Caps on sizes, memory and time.
    Raises:
        InputError: Whatever makes the series unusable, with a code of `medmm.errors.CODES`.
    """
    if not isinstance(source, Series):
        path = Path(source)
        from medmm.images import is_image_file, read_image

        if is_image_file(path):
            return read_image(path, workers=workers, limits=limits)
        source = only_series(path, workers=workers, limits=limits)
    plan = check_series(source, gaps=gaps, limits=limits)
    filled = fill(plan, workers, limits)
    if plan.geometry.gaps_mm:
        plan, buffer = resample_gaps(plan, filled.buffer)
        filled = replace(filled, buffer=buffer)
    return finish(source, plan, filled)


def only_series(path: Path, *, workers: int | None = None, limits: Limits = DEFAULT_LIMITS) -> Series:
    """Return the series of a folder or file; of one that holds several volumes, the largest (then the first).

    Raises:
        InputError: series.none, series.choice, or the code of the one reason why nothing can be read.
    """
    found = discover(path, workers=workers, limits=limits)
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


def check_series(
    series: Series, *, gaps: Literal["refuse", "resample"] = "refuse", limits: Limits = DEFAULT_LIMITS
) -> ReadPlan:
    """Check that a series can be one volume without reading its pixels, and return where each slice goes.

    Raises:
        InputError: series.*, dicom.*, limit.pixels.
    """
    if series.defects:
        raise InputError(f"The series cannot be used: {series.defects[0].reason}", code=series.defects[0].code)
    geometry = stack_geometry(series.slices)
    if geometry.gaps_mm and gaps == "refuse":
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


def finish(series: Series, plan: ReadPlan, filled: Filled) -> Volume:
    """Return the filled buffer as a volume in RAS+ with its notes."""
    notes = [*series.notes, *plan.geometry.notes]
    notes += _one_note_a_code(plan)
    if filled.low == filled.high:
        notes.append(Note("image.constant", "Every voxel has the same value."))
    elif _repeats_one_slice(filled.buffer):
        notes.append(Note("image.constant", "Every slice shows the same."))
    if len(plan.slices) == 1:
        notes.append(Note("series.too_few", "The volume has one slice."))
    axis_of = plan.canonical.axis_of
    is_hu = has_physical_values(plan.slices[0].instance)
    return Volume(
        voxels=filled.buffer.transpose(2, 1, 0).transpose(axis_of)[None],
        affine_ras=plan.canonical.affine_ras if plan.geometry.has_geometry else _flat_affine(plan),
        modality=series.modality,
        unit="HU" if is_hu else "a.u.",
        notes=tuple(dict.fromkeys(notes)),
    )


def _repeats_one_slice(buffer: np.ndarray) -> bool:
    """Whether all slices are equal; the last is compared first, so that a real volume is told at once."""
    return len(buffer) > 1 and all(np.array_equal(buffer[0], other) for other in buffer[:0:-1])


def _one_note_a_code(plan: ReadPlan) -> list[Note]:
    """Notes of the files; of those that differ only in a number, such as a compression ratio, the first."""
    found: dict[str, Note] = {}
    for piece in plan.slices:
        for note in piece.instance.notes:
            found.setdefault(note.code, note)
    return list(found.values())


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
        remedy="Export the series again, or read it with gaps='resample'.",
    )
