"""Voxels inside the page: every series as one picture of all its axial slices, 8 bits, with heatmaps and masks.

Grey levels go in as JPEG (a few tenths of a byte a voxel), heatmaps and masks as PNG (zero must stay zero). The
viewer's script turns the pictures back into arrays, so it can cut any plane and set any window.
"""

import base64
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from medmm.report.content import CaseReport
from medmm.report.figures import CT_WINDOWS_HU, EDGES, acquisition_plane, grey_scale
from medmm.report.grids import DisplayGrid, choose_factors, index_on_grid, is_placed, merge_blocks, values_on_grid
from medmm.results import VolumeAttribution
from medmm.types import Volume

# What the viewer's pictures may take by default, in bytes as text of the page.
MEDIA_BUDGET_BYTES = 3_800_000
_VOXEL_BUDGET = 12_000_000
_ATLAS_JPEG_QUALITY = 85
# Other planes are offered up to this ratio of slice thickness to pixel width; beyond it they show steps, not anatomy.
MAX_PLANE_RATIO = 6.0
# Heatmaps are smooth: half the pixels in each direction show the same.
_HEAT_MERGE_FROM = 96


def viewer_data(report: CaseReport, max_bytes: int = MEDIA_BUDGET_BYTES) -> dict[str, Any]:
    """What the viewer's script reads, JSON-ready, with at most `max_bytes` of pictures."""
    budget = float(_VOXEL_BUDGET)
    while True:
        series, size = _all_series(report, budget)
        if size <= max_bytes or budget < 10_000:
            return {"series": series}
        budget *= max(0.3, 0.9 * max_bytes / size)


def _all_series(report: CaseReport, voxel_budget: float) -> tuple[list[dict[str, Any]], int]:
    count = sum(volume.voxels.shape[0] for volume in report.volumes.values())
    series, size = [], 0
    for role, volume in report.volumes.items():
        factors = choose_factors(volume.shape, volume.spacing_mm, voxel_budget / max(count, 1))
        grid = DisplayGrid(shape=volume.shape, affine_ras=volume.affine_ras, factors=factors)
        overlays = _overlays(report, role, grid)
        for channel in range(volume.voxels.shape[0]):
            part = {**_series(role, volume, channel, grid), **overlays}
            series.append(part)
            size += len(part["atlas"])
        size += sum(len(part["atlas"]) for kind in overlays.values() for part in kind)
    return series, size


def _series(role: str, volume: Volume, channel: int, grid: DisplayGrid) -> dict[str, Any]:
    voxels, count = volume.voxels[channel], volume.voxels.shape[0]
    scale = grey_scale(voxels, is_hounsfield=volume.unit == "HU")
    codes = scale.encode(merge_blocks(voxels, grid.factors, "mean"))
    spacing = [edge * factor for edge, factor in zip(volume.spacing_mm, grid.factors, strict=True)]
    plane = acquisition_plane(volume.spacing_mm, volume.shape)
    ratio = max(volume.spacing_mm) / min(volume.spacing_mm)
    is_stack = min(volume.shape) > 1
    return {
        "label": [volume.modality] if count == 1 else [volume.modality, f"{channel + 1}/{count}"],
        "role": role,
        "dims": list(grid.display_shape),
        "source": list(volume.shape),
        "factors": list(grid.factors),
        "spacing": [round(edge, 4) for edge in spacing],
        "plane": plane,
        "planes": [plane, *(p for p in EDGES if p != plane)] if is_stack and ratio <= MAX_PLANE_RATIO else [plane],
        "ratio": round(ratio, 1),
        "edges": EDGES if is_placed(volume.affine_ras, volume.shape) else None,
        "codes": list(scale.codes),
        "values": [round(value, 4) for value in scale.values],
        "unit": volume.unit,
        "window": [round(scale.low, 4), round(scale.high, 4)],
        "presets": CT_WINDOWS_HU if volume.unit == "HU" else {},
        "columns": _columns(codes.shape),
        "atlas": _data_uri(_atlas(codes), "JPEG"),
    }


def _overlays(report: CaseReport, role: str, grid: DisplayGrid) -> dict[str, list[dict[str, Any]]]:
    masks = []
    for name, region in report.masks.items():
        codes = (values_on_grid(region.mask, region.affine_ras, grid, "max") > 0).astype(np.uint8) * 255
        masks.append({"region": name, "columns": _columns(codes.shape), "atlas": _data_uri(_atlas(codes), "PNG")})
    return {"heatmaps": [_heatmap(part, role, grid) for part in _heatmaps_for(report, role)], "masks": masks}


def _heatmaps_for(report: CaseReport, role: str) -> Iterator[VolumeAttribution]:
    """Each task's heatmap of this series, else its strongest one: models that read series together make only one."""
    for task in report.content.tasks.values():
        files = [heatmap.file for heatmap in task.why.heatmaps] if task.why else []
        parts = [report.heatmaps[file] for file in files if file in report.heatmaps]
        if parts:
            yield next((part for part in parts if part.role == role), parts[0])


def _heatmap(part: VolumeAttribution, role: str, grid: DisplayGrid) -> dict[str, Any]:
    extra = tuple(2 if size >= _HEAT_MERGE_FROM else 1 for size in grid.display_shape)
    i, j, k = (factor * more for factor, more in zip(grid.factors, extra, strict=True))
    coarse = DisplayGrid(shape=grid.shape, affine_ras=grid.affine_ras, factors=(i, j, k))
    values = values_on_grid(part.values, part.affine_ras, coarse, "mean")
    codes = np.rint(np.clip(values, 0, 1) * 63).astype(np.uint8) * 4  # 64 levels
    return {
        "task": part.task,
        "carried": "" if part.role == role else part.role,
        "dims": list(codes.shape),
        "extra": list(extra),
        "columns": _columns(codes.shape),
        "peak": index_on_grid(part.peak_ras_mm, grid),
        "atlas": _data_uri(_atlas(codes), "PNG"),
    }


def _columns(shape: tuple[int, ...]) -> int:
    """Tiles in a row, so that the picture is about square."""
    width, height, count = shape
    return max(1, min(count, math.ceil(math.sqrt(count * height / width))))


def _atlas(codes: np.ndarray) -> Image.Image:
    """All slices along k as tiles, row by row; inside a tile, x is i and y is j."""
    width, height, count = codes.shape
    columns = _columns(codes.shape)
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, height, width), dtype=np.uint8)
    tiles[:count] = codes.transpose(2, 1, 0)
    picture = tiles.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return Image.fromarray(picture)


def _data_uri(picture: Image.Image, kind: str) -> str:
    stream = io.BytesIO()
    if kind == "JPEG":
        picture.save(stream, format="JPEG", quality=_ATLAS_JPEG_QUALITY)
    else:
        picture.save(stream, format="PNG", compress_level=4)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
