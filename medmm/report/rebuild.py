"""A report without its model: from `case.json` and the files beside it back to a `CaseReport` that can be written anew.

Pictures come from volumes that the caller read again, or else from the viewer of the `report.html` beside it, which
holds them in 8 bits, compressed with loss. What is not there is left out, with a note.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medmm.errors import InputError, UsageError
from medmm.report.content import CaseReport
from medmm.report.document import SCHEMA_VERSION, CaseDocument, HeatmapPart, NotePart, RegionPart, SeriesPart
from medmm.results import Region, VolumeAttribution
from medmm.types import Volume

# Files that medmm writes beside case.json; any other name in it is not followed.
_OURS = re.compile(r"(heatmaps|masks)/[A-Za-z0-9_][A-Za-z0-9._-]*\.nii\.gz")
_ISLAND = re.compile(r'<script type="application/json" id="viewer-data">(.*?)</script>', re.DOTALL)
_PAGE_LIMIT_BYTES = 20_000_000


def read_case_report(path: str | Path, volumes: Mapping[str, Volume] | None = None) -> CaseReport:
    """Return the report that a `case.json` was written from.

    Args:
        path: A `case.json`, or the folder that holds one.
        volumes: The case's volumes by role, read again; without them the pictures of `report.html` are used.
    Raises:
        UsageError: `config.key` where there is no such file, or it is of another schema.
        InputError: `io.unreadable` for a heatmap or mask that cannot be read, `io.changed` for one of another grid.
    """
    file = Path(path) / "case.json" if Path(path).is_dir() else Path(path)
    content = _read_document(file)
    folder = file.parent
    heatmaps = {
        heat.file: _read_heatmap(folder, name, heat)
        for name, task in content.tasks.items()
        for heat in (task.why.heatmaps if task.why else ())
        if _is_there(folder, heat.file)
    }
    masks = {
        name: _read_mask(folder, name, part)
        for name, part in content.regions.items()
        if part.file is not None and _is_there(folder, part.file)
    }
    notes = []
    if volumes is None:
        volumes = _volumes_of_page(folder / "report.html", content.series)
        if volumes:
            notes.append("Pictures were taken from an earlier report: 8 bits, compressed with loss.")
    expected = sum(len(task.why.heatmaps) for task in content.tasks.values() if task.why)
    expected += sum(part.file is not None for part in content.regions.values())
    if missing := expected - len(heatmaps) - len(masks):
        notes.append(f"{missing} heatmaps or masks were not beside case.json and are not shown.")
    added = tuple(NotePart(code="output.rebuilt", message=message) for message in notes)
    kept = tuple(note for note in content.notes if note.code != "output.rebuilt")
    content = content.model_copy(update={"notes": (*kept, *added)})
    return CaseReport(content=content, volumes=volumes, heatmaps=heatmaps, masks=masks)


def _read_document(file: Path) -> CaseDocument:
    from pydantic import ValidationError

    try:
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"Expected a readable case.json ({error.strerror}).",
            code="config.key",
            remedy="Name a case.json of `medmm diagnose`, or the folder it lies in.",
        ) from None
    except (ValueError, RecursionError):
        raise UsageError("Expected JSON in the case file (it is something else).", code="config.key") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    try:
        return CaseDocument.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"])
        raise UsageError(
            f"The case file does not follow schema {SCHEMA_VERSION} (at {place or 'its top'}: {first['msg']}).",
            code="config.key",
            remedy="Diagnose the case again with this version of medmm."
            if version != SCHEMA_VERSION
            else "Undo the change that was made to the file.",
        ) from None


def _is_there(folder: Path, name: str) -> bool:
    return _OURS.fullmatch(name) is not None and (folder / name).is_file()


def _read_heatmap(folder: Path, task: str, part: HeatmapPart) -> VolumeAttribution:
    volume = _read_nifti(folder / part.file)
    if not all(index < count for index, count in zip(part.peak_index, volume.shape, strict=True)):
        raise _changed(part.file)
    return VolumeAttribution(
        role=part.role,
        task=task,
        target=part.target,
        method=part.method,
        values=volume.voxels[0],
        affine_ras=volume.affine_ras,
    )


def _read_mask(folder: Path, name: str, part: RegionPart) -> Region:
    volume = _read_nifti(folder / str(part.file))
    mask = (volume.voxels[0] > 0).astype(np.uint8)
    if int(mask.sum()) != part.voxel_count:
        raise _changed(str(part.file))
    return Region(
        name=name,
        title=part.title,
        role=part.role,
        mask=mask,
        affine_ras=volume.affine_ras,
        peak_probability=part.peak_probability,
    )


def _read_nifti(file: Path) -> Volume:
    from medmm.images import read_image

    return read_image(file, workers=0)  # our own files, read by a parser in Python


def _changed(file: str) -> InputError:
    return InputError(f"{file} does not belong to the case.json beside it.", code="io.changed")


def _volumes_of_page(page: Path, series: tuple[SeriesPart, ...]) -> dict[str, Volume]:
    """The volumes that the viewer of an earlier page shows, on their source grids; none where there is no page."""
    if not page.is_file() or page.stat().st_size > _PAGE_LIMIT_BYTES:
        return {}
    found = _ISLAND.search(page.read_text(encoding="utf-8", errors="replace"))
    try:
        entries = json.loads(found.group(1))["series"] if found else []
        volumes = {}
        for part in series:
            channels = [_channel(entry, part) for entry in entries if entry["role"] == part.role]
            if len(channels) == part.channel_count:
                volumes[part.role] = _volume(part, channels)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, binascii.Error):
        return {}  # a page that was edited or is of another version: the report is written without pictures
    return volumes


def _volume(part: SeriesPart, channels: list[np.ndarray]) -> Volume:
    return Volume(
        voxels=np.stack(channels),
        affine_ras=np.array(part.affine_ras),
        modality=part.modality,
        unit="HU" if part.unit == "HU" else "a.u.",
    )


def _channel(entry: dict[str, Any], part: SeriesPart) -> np.ndarray:
    """One series of the viewer (I, J, K) float32 on its source grid; merged voxels are repeated."""
    from PIL import Image

    (width, height, count), columns = (int(size) for size in entry["dims"]), int(entry["columns"])
    factors = [int(factor) for factor in entry["factors"]]
    expected = [-(-size // factor) for size, factor in zip(part.shape_voxels, factors, strict=True)]
    if [width, height, count] != expected:
        raise ValueError("the page shows another grid")
    sheet = base64.b64decode(str(entry["atlas"]).partition("base64,")[2], validate=True)
    with Image.open(io.BytesIO(sheet), formats=("JPEG",)) as picture:
        pixels = np.asarray(picture.convert("L"))
    rows = -(-count // columns)
    tiles = pixels.reshape(rows, height, columns, width).transpose(0, 2, 1, 3).reshape(-1, height, width)[:count]
    values = np.interp(tiles.transpose(2, 1, 0), entry["codes"], entry["values"]).astype(np.float32)
    for axis, factor in enumerate(factors):
        if factor > 1:
            values = values.repeat(factor, axis=axis)
    i, j, k = part.shape_voxels
    return np.ascontiguousarray(values[:i, :j, :k])
