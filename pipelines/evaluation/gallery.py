"""Small pictures of cases, for the failure gallery: the slice with most of the region, or the middle one."""

import base64

import numpy as np

from medmm.report.figures import (
    AXES,
    EDGES,
    SlicePicture,
    acquisition_plane,
    grey_scale,
    jpeg_bytes,
    pixel_mm,
    render_slice,
    take_plane,
)
from medmm.results import Diagnosis
from medmm.types import Case

HEIGHT_PX = 180


def thumbnail(case: Case, diagnosis: Diagnosis) -> str:
    """Return a slice with the outline of what was found as a data URI; empty for a case without a volume."""
    if not case.volumes:
        return ""
    region = next((item for item in diagnosis.regions.values() if item.role in case.volumes), None)
    role = region.role if region is not None else next(iter(case.volumes))
    volume = case.volumes[role]
    plane = acquisition_plane(volume.spacing_mm, volume.shape)
    mask = region.mask if region is not None and region.mask.shape == volume.shape else None
    others = tuple(axis for axis in range(3) if axis != AXES[plane])
    index = volume.shape[AXES[plane]] // 2 if mask is None or not mask.any() else int(mask.sum(axis=others).argmax())
    scale = grey_scale(volume.voxels[0], is_hounsfield=volume.unit == "HU")
    grey = scale.grey_table()[scale.encode(take_plane(volume.voxels[0], plane, index))]
    picture = SlicePicture(
        grey=grey,
        pixel_mm=pixel_mm(volume.spacing_mm, plane),
        edges=EDGES[plane],
        masks=() if mask is None else (take_plane(mask.astype(np.uint8), plane, index),),
    )
    content = jpeg_bytes(render_slice(picture, height=HEIGHT_PX))
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"
