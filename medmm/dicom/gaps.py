"""Unevenly spaced slices brought onto an even grid, on request only: invented slices must never look measured."""

from dataclasses import replace

import numpy as np

from medmm.dicom.geometry import to_canonical
from medmm.dicom.plan import ReadPlan
from medmm.types import Note


def resample_gaps(plan: ReadPlan, buffer: np.ndarray) -> tuple[ReadPlan, np.ndarray]:
    """Return plan and buffer on an even grid from the first to the last slice, linear between neighbours.

    Args:
        plan: Of a series with `gaps_mm`; its slices lie at `offsets_mm` along the normal.
        buffer: (slices, rows, columns), as filled by that plan.

    The step is the median of the measured ones, adjusted so that the last slice stays where it is.
    """
    geometry = plan.geometry
    offsets = np.asarray(geometry.offsets_mm)
    median = float(np.median(geometry.gaps_mm))
    count = round(float(offsets[-1]) / median) + 1
    wanted = np.linspace(0.0, offsets[-1], count)
    source = buffer[::-1] if plan.flips[0] else buffer
    out = np.empty((count, *buffer.shape[1:]), dtype=np.float32)
    target = out[::-1] if plan.flips[0] else out
    for n, offset in enumerate(wanted):
        upper = int(np.clip(np.searchsorted(offsets, offset), 1, len(offsets) - 1))
        share = np.float32((offset - offsets[upper - 1]) / (offsets[upper] - offsets[upper - 1]))
        target[n] = source[upper - 1] * (1 - share) + source[upper] * share
    affine = geometry.affine_ras.copy()
    affine[:3, 2] *= (len(offsets) - 1) / (count - 1)
    # Positions off the even grid by more than rounding were interpolated.
    moved = int((np.abs(wanted[:, None] - offsets[None]).min(axis=1) > 1e-3).sum())
    steps = ", ".join(f"{step:.2f}" for step in sorted(set(np.round(geometry.gaps_mm, 2).tolist())))
    message = f"Slices were unevenly spaced (steps of {steps} mm): {moved} of {count} slices are interpolated."
    note = Note("series.gap", message)
    rows, columns = buffer.shape[1:]
    evened = replace(geometry, affine_ras=affine, gaps_mm=(), offsets_mm=(), notes=(*geometry.notes, note))
    canonical = to_canonical(affine, (columns, rows, count))
    return replace(plan, buffer_shape=out.shape, geometry=evened, canonical=canonical), out
