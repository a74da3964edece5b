"""Key slices: the pictures that carry the report where no script runs, on paper and on a small screen."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from medmm.report.content import CaseReport
from medmm.report.figures import (
    AXES,
    EDGES,
    SlicePicture,
    acquisition_plane,
    grey_scale,
    pixel_mm,
    render_slice,
    take_plane,
)
from medmm.report.grids import DisplayGrid, is_placed, values_on_grid
from medmm.report.texts import Texts
from medmm.report.words import title_of
from medmm.results import Region, VolumeAttribution
from medmm.types import Volume

_MAX_REGIONS, _MAX_TASKS = 2, 6
_PICTURE_PX = 360
# Grey level up to which a pixel counts as background, and the margin kept around the rest (share of the side).
_DARK, _MARGIN = 25, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySlice:
    """A slice twice, plain and with overlay, with what to say about it; `index` counts from 0 along `plane`'s axis."""

    kind: str
    role: str
    plane: str
    index: int
    caption: str
    alt: str
    alt_plain: str
    plain: Image.Image
    overlay: Image.Image


def key_slices(report: CaseReport, texts: Texts, *, size_px: int = _PICTURE_PX) -> tuple[KeySlice, ...]:
    """The largest slice of each region, then the peak of each task's strongest heatmap; longer sides have `size_px`."""
    drawings = _Drawings(report, texts, size_px)
    regions = [drawings.of_region(name, region) for name, region in list(report.masks.items())[:_MAX_REGIONS]]
    heats = [drawings.of_heatmap(names, part) for names, part in _strongest(report)]
    return tuple(part for part in (*regions, *heats) if part is not None)


def _strongest(report: CaseReport) -> list[tuple[list[str], VolumeAttribution]]:
    """The strongest heatmap of each task; tasks with the same values share one picture."""
    found: list[tuple[list[str], VolumeAttribution]] = []
    for name, task in list(report.content.tasks.items())[:_MAX_TASKS]:
        part = report.heatmaps.get(task.why.heatmaps[0].file) if task.why and task.why.heatmaps else None
        same = [names for names, other in found if part is not None and _is_same(part, other)]
        if same:
            same[0].append(name)
        elif part is not None:
            found.append(([name], part))
    return found


def _is_same(one: VolumeAttribution, other: VolumeAttribution) -> bool:
    alike = (one.role, one.method) == (other.role, other.method)
    return alike and np.array_equal(one.values, other.values)


class _Drawings:
    """Draws slices of one report; the grey scale of a volume is worked out once."""

    def __init__(self, report: CaseReport, texts: Texts, size_px: int) -> None:
        self._report = report
        self._size_px = size_px
        self._texts = texts
        self._scales = {
            role: grey_scale(volume.voxels[0], is_hounsfield=volume.unit == "HU")
            for role, volume in report.volumes.items()
        }
        self._masks = {
            role: [_mask_on_volume(region, volume) for region in report.masks.values()]
            for role, volume in report.volumes.items()
        }

    def of_region(self, name: str, region: Region) -> KeySlice | None:
        volume = self._report.volumes.get(region.role)
        if volume is None or region.mask.shape != volume.shape:
            return None
        plane = acquisition_plane(volume.spacing_mm, volume.shape)
        others = tuple(axis for axis in range(3) if axis != AXES[plane])
        index = int(np.argmax((region.mask > 0).sum(axis=others)))
        title = self._report.content.regions[name].title
        place = self._place(region.role, volume, plane, index)
        caption = self._texts("pictures.region", title=title, **place)
        alt = self._texts("pictures.alt_region", title=title, **place)
        return self._draw("region", region.role, plane, index, caption=caption, alt=alt, heat=None)

    def of_heatmap(self, names: list[str], part: VolumeAttribution) -> KeySlice | None:
        volume = self._report.volumes.get(part.role)
        if volume is None or part.values.shape != volume.shape:
            return None
        plane = acquisition_plane(volume.spacing_mm, volume.shape)
        index = part.peak_index[AXES[plane]]
        tasks = [self._report.content.tasks[name] for name in names]
        place = self._place(part.role, volume, plane, index)
        answers = self._texts("draft.or").join(
            self._texts("pictures.answer", task=task.title, target=title_of(task, task.why.target if task.why else ""))
            for task in tasks
        )
        caption = self._texts(
            "pictures.heat", answers=answers, method=self._texts.known("method", part.method), **place
        )
        titles = self._texts("draft.or").join(task.title for task in tasks)
        alt = self._texts("pictures.alt_heat", task=titles, **place)
        return self._draw("heat", part.role, plane, index, caption=caption, alt=alt, heat=part.values)

    def _place(self, role: str, volume: Volume, plane: str, index: int) -> dict[str, object]:
        named = self._texts(f"plane.{plane if is_placed(volume.affine_ras, volume.shape) else 'picture'}")
        return {
            "role": self._texts.known("role", role),
            "plane": named,
            "slice": index + 1,
            "count": volume.shape[AXES[plane]],
        }

    def _draw(
        self, kind: str, role: str, plane: str, index: int, *, caption: str, alt: str, heat: np.ndarray | None
    ) -> KeySlice:
        volume, scale = self._report.volumes[role], self._scales[role]
        grey = scale.grey_table()[scale.encode(take_plane(volume.voxels[0], plane, index))]
        edges = EDGES[plane] if is_placed(volume.affine_ras, volume.shape) else None
        size_mm = pixel_mm(volume.spacing_mm, plane)
        masks = [take_plane(mask, plane, index) for mask in self._masks[role]]
        box = lit_box(grey, masks)
        plain = SlicePicture(grey=grey[box], pixel_mm=size_mm, edges=edges)
        overlay = SlicePicture(
            grey=grey[box],
            pixel_mm=size_mm,
            edges=edges,
            heat=None if heat is None else take_plane(heat, plane, index)[box],
            masks=tuple(mask[box] for mask in masks),
        )
        place = self._place(role, volume, plane, index)
        return KeySlice(
            kind=kind,
            role=role,
            plane=plane,
            index=index,
            caption=caption,
            alt=alt,
            alt_plain=self._texts("pictures.plain", **place),
            plain=render_slice(plain, height=self._size_px),
            overlay=render_slice(overlay, height=self._size_px),
        )


def lit_box(grey: np.ndarray, masks: list[np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns that hold anything but dark background, with a margin; all of them where little is dark."""
    lit = grey > _DARK
    for mask in masks:
        lit = lit | (mask > 0)
    box = []
    for axis in (1, 0):
        places = np.flatnonzero(lit.any(axis=axis))
        size = lit.shape[1 - axis]
        margin = max(2, round(_MARGIN * size))
        first, last = (int(places[0]), int(places[-1])) if places.size else (0, size - 1)
        box.append(slice(max(0, first - margin), min(size, last + 1 + margin)))
    return box[0], box[1]


def _mask_on_volume(region: Region, volume: Volume) -> np.ndarray:
    grid = DisplayGrid(shape=volume.shape, affine_ras=volume.affine_ras, factors=(1, 1, 1))
    return values_on_grid(region.mask, region.affine_ras, grid, "max")
