"""Text burned into pixels: which images may hold it, and regions that are blanked on request."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medmm.errors import InputError, UsageError

if TYPE_CHECKING:
    from pydicom import Dataset

CONDITIONS = ("modality", "manufacturer", "model", "rows", "columns")
CORNERS = ("x", "y", "width", "height")
# SOP classes whose pixels usually carry text: secondary captures, ultrasound, visible light (photographs, endoscopy).
_RISKY_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.77.1.1",
    "1.2.840.10008.5.1.4.1.1.77.1.2",
    "1.2.840.10008.5.1.4.1.1.77.1.4",
)
_RISKY_TYPES = frozenset({"SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "DOSE_INFO", "DOSE", "PROTOCOL", "REPORT"})
_HEAD = frozenset({"HEAD", "BRAIN", "SKULL", "FACE", "NECK", "HEADNECK", "ORBIT", "SINUS", "IAC", "PITUITARY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A region in pixels, and the images it is for: (attribute, wanted text) pairs, all of which must hold."""

    conditions: tuple[tuple[str, str], ...]
    x: int
    y: int
    width: int
    height: int

    def fits(self, dataset: "Dataset") -> bool:
        """Whether the region is meant for this image; texts are compared without regard to case."""
        found = {
            "modality": dataset.get("Modality", ""),
            "manufacturer": dataset.get("Manufacturer", ""),
            "model": dataset.get("ManufacturerModelName", ""),
            "rows": dataset.get("Rows", ""),
            "columns": dataset.get("Columns", ""),
        }
        return all(str(found[name] or "").strip().lower() == wanted.lower() for name, wanted in self.conditions)


def read_masks(path: Path) -> tuple[Mask, ...]:
    """Return the regions of a CSV: columns `x, y, width, height` in pixels from the top left, and any of `CONDITIONS`.

    Raises:
        UsageError: `config.table` where it cannot be read, lacks a column or holds no number where one is due.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise UsageError("The table of masks cannot be read.", code="config.table", remedy="Check --masks.") from None
    masks = []
    for row in rows:
        try:
            x, y, width, height = (int(row[name]) for name in CORNERS)
        except (KeyError, TypeError, ValueError):
            raise _bad_masks() from None
        if min(x, y) < 0 or min(width, height) < 1 or not set(row) <= {*CONDITIONS, *CORNERS}:
            raise _bad_masks()
        conditions = tuple((name, text) for name in CONDITIONS if (text := (row.get(name) or "").strip()))
        masks.append(Mask(conditions=conditions, x=x, y=y, width=width, height=height))
    return tuple(masks)


def may_hold_text(dataset: "Dataset") -> bool:
    """Whether text may be burned in: the file says so, or its kind is suspect and the file does not deny it."""
    said = str(dataset.get("BurnedInAnnotation", "")).strip().upper()
    if said in ("YES", "NO"):
        return said == "YES"
    uid = str(dataset.get("SOPClassUID", ""))
    kinds = dataset.get("ImageType") or ()
    kinds = {str(kind).strip().upper() for kind in ([kinds] if isinstance(kinds, str) else kinds)}
    return any(uid == root or uid.startswith(f"{root}.") for root in _RISKY_CLASSES) or bool(kinds & _RISKY_TYPES)


def shows_a_head(dataset: "Dataset") -> bool:
    """Whether a face may be rendered from the volume this image belongs to, as far as the header tells."""
    body_part = str(dataset.get("BodyPartExamined", "")).strip().upper()
    return body_part in _HEAD and str(dataset.get("Modality", "")) in ("CT", "MR", "PT")


def blank(dataset: "Dataset", masks: tuple[Mask, ...]) -> None:
    """Set the regions to the smallest stored value, in place; compressed pixels become uncompressed.

    Raises:
        InputError: `decode.failed` where the pixels cannot be decoded, `image.burned_in` where a region misses.
    """
    import numpy as np
    from pydicom.pixels import pixel_array
    from pydicom.uid import ExplicitVRLittleEndian

    try:
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.decompress()
        pixels = pixel_array(dataset, raw=True).copy()
    except (ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError, TypeError):
        raise InputError("The pixels to blank could not be decoded.", code="decode.failed") from None
    samples, frames = int(dataset.SamplesPerPixel), int(dataset.get("NumberOfFrames") or 1)
    stack = pixels.reshape(frames, int(dataset.Rows), int(dataset.Columns), samples)
    for mask in masks:
        region = stack[:, mask.y : mask.y + mask.height, mask.x : mask.x + mask.width]
        if not region.size:
            raise InputError(
                "A region to blank lies outside the image.", code="image.burned_in", remedy="Check --masks."
            )
        region[...] = stack.min()
    ordered = stack
    if samples > 1 and int(dataset.get("PlanarConfiguration") or 0):
        ordered = np.moveaxis(stack, 3, 1)
    content = np.ascontiguousarray(ordered).astype(ordered.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if int(dataset.BitsAllocated) <= 8 else "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.BurnedInAnnotation = "NO"


def trim(dataset: "Dataset") -> None:
    """Cut native pixel data to the length that the header needs: what stands behind it is no image."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in dataset:
        return
    from pydicom.pixels.utils import get_expected_length

    try:
        needed = get_expected_length(dataset, unit="bytes")
    except (AttributeError, TypeError, ValueError):
        raise InputError("The size of the pixels is not stated.", code="dicom.missing_tag") from None
    needed += needed % 2
    if len(dataset.PixelData) < needed:
        raise InputError("Pixel data is shorter than the header says.", code="dicom.pixel_length")
    if len(dataset.PixelData) > needed:
        dataset.PixelData = dataset.PixelData[:needed]


def _bad_masks() -> UsageError:
    return UsageError(
        f"Expected a table of masks with the columns {', '.join(CORNERS)} (whole numbers) and any of "
        f"{', '.join(CONDITIONS)}.",
        code="config.table",
        remedy="Check the file given with --masks.",
    )
