"""Pictures of slices: grey levels, windows, radiological orientation, heatmap overlay and outlines.

Volumes are RAS+, so every plane turns by the same rule: transpose and flip both axes. That puts the patient's right on
the left of axial and coronal pictures, anterior on top of axial and on the left of sagittal ones (radiological).
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from medmm.report.colours import OUTLINES, colour_table

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
# Text at the left, right, upper and lower edge of a plane in radiological orientation.
EDGES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
# Where rows run to and columns run to on those pictures, as DICOM says it (PS3.3, C.7.6.1.1.1).
PATIENT_ORIENTATION = {"axial": ("L", "P"), "coronal": ("L", "F"), "sagittal": ("P", "F")}
# Widths and levels in HU: Radiopaedia, "Windowing (CT)" (customary values; sites differ).
CT_WINDOWS_HU = {
    "soft_tissue": (-160.0, 240.0),
    "brain": (0.0, 80.0),
    "stroke": (20.0, 60.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
}
# 8-bit codes of CT: 1 HU a code where tissue lies, coarse in air and bone, so that a narrow window keeps its levels.
_CT_CODES = (0.0, 32.0, 56.0, 176.0, 216.0, 255.0)
_CT_VALUES_HU = (-1024.0, -200.0, -20.0, 100.0, 300.0, 2000.0)
# Attribution below this is not painted: the anatomy stays visible.
HEATMAP_FLOOR = 0.15
_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyScale:
    """How voxel values map to 8-bit codes (`values[n]` to `codes[n]`, linear in between), and the first window."""

    codes: tuple[float, ...]
    values: tuple[float, ...]
    low: float
    high: float

    def encode(self, voxels: np.ndarray) -> np.ndarray:
        """Codes (uint8) of voxel values of any shape; values that are not finite become the lowest code."""
        finite = np.nan_to_num(voxels, nan=self.values[0], posinf=self.values[-1], neginf=self.values[0])
        return np.rint(np.interp(finite, self.values, self.codes)).astype(np.uint8)

    def grey_table(self) -> np.ndarray:
        """Grey (256,) uint8 of each code inside the first window."""
        values = np.interp(np.arange(256), self.codes, self.values)
        return np.rint(np.clip((values - self.low) / (self.high - self.low), 0, 1) * 255).astype(np.uint8)


def grey_scale(voxels: np.ndarray, *, is_hounsfield: bool) -> GreyScale:
    """The grey scale of a volume: fixed for Hounsfield units, else from the 0.1 to the 99.9 percentile."""
    if is_hounsfield:
        low, high = CT_WINDOWS_HU["soft_tissue"]
        return GreyScale(codes=_CT_CODES, values=_CT_VALUES_HU, low=low, high=high)
    finite = voxels[np.isfinite(voxels)].ravel()
    sample = finite[:: max(1, finite.size // 200_000)] if finite.size else np.zeros(1)
    low, high = (float(value) for value in np.percentile(sample, (0.1, 99.9)))
    if not low < high:
        high = low + 1.0
    # Background is most of a head volume; a window over the lit voxels shows the tissue.
    lit = sample[sample > low + 0.05 * (high - low)]
    top = float(np.percentile(lit, 97.0)) if lit.size else high
    return GreyScale(codes=(0.0, 255.0), values=(low, high), low=low, high=max(top, low + 0.1 * (high - low)))


def acquisition_plane(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> str:
    """The plane in which slices were taken: across the widest spacing; axial when no spacing stands out."""
    spacing = np.array(spacing_mm)
    widest = int(np.argmax(spacing))
    stands_out = spacing[widest] > 1.5 * np.median(spacing) and shape[widest] > 1
    flat = [name for name, axis in AXES.items() if shape[axis] == 1]
    if flat:
        return flat[0]
    return next(name for name, axis in AXES.items() if axis == widest) if stands_out else "axial"


def plane_of(affine_ras: np.ndarray, shape: tuple[int, ...]) -> str:
    """The plane of acquisition of a grid, from its affine."""
    i, j, k = (float(edge) for edge in np.linalg.norm(affine_ras[:3, :3], axis=0))
    return acquisition_plane((i, j, k), (shape[0], shape[1], shape[2]))


def take_plane(array: np.ndarray, plane: str, index: int) -> np.ndarray:
    """Slice `index` of an (I, J, K) array as a picture (rows, columns) in radiological orientation."""
    return np.take(array, index, axis=AXES[plane]).T[::-1, ::-1]


def pixel_mm(spacing_mm: tuple[float, float, float], plane: str) -> tuple[float, float]:
    """Height and width of a picture's pixel."""
    across, up = (spacing_mm[axis] for axis in range(3) if axis != AXES[plane])
    return up, across


def outline_segments(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Edges (x0, y0, x1, y1) between marked and unmarked pixels of a picture (rows, columns)."""
    padded = np.pad(mask > 0, 1)
    segments: list[tuple[int, int, int, int]] = []
    for row, column in np.argwhere(padded[1:, :] != padded[:-1, :]):
        segments.append((int(column) - 1, int(row), int(column), int(row)))
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        segments.append((int(column), int(row) - 1, int(column), int(row)))
    return segments


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePicture:
    """What one picture shows: grey levels and, on top, attribution and masks, all (rows, columns) of one plane."""

    grey: np.ndarray
    pixel_mm: tuple[float, float]
    heat: np.ndarray | None = None
    masks: tuple[np.ndarray, ...] = ()
    edges: tuple[str, str, str, str] | None = None


def render_slice(picture: SlicePicture, *, height: int = 360, opacity: float = 0.6) -> Image.Image:
    """The picture in physical proportions, longer side at most `height` pixels, with edge letters and outlines."""
    rows, columns = picture.grey.shape
    size_mm = (rows * picture.pixel_mm[0], columns * picture.pixel_mm[1])
    scale = height / max(size_mm)
    size = (max(1, round(size_mm[1] * scale)), max(1, round(size_mm[0] * scale)))
    canvas = Image.fromarray(np.ascontiguousarray(picture.grey)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    if picture.heat is not None:
        canvas = _paint_heat(canvas, picture.heat, opacity)
    draw = ImageDraw.Draw(canvas)
    for number, mask in enumerate(picture.masks):
        _draw_outline(draw, mask, (size[0] / columns, size[1] / rows), number)
    if picture.edges:
        _draw_edges(draw, picture.edges, size)
    return canvas


def jpeg_bytes(picture: Image.Image) -> bytes:
    """The picture as JPEG without colour subsampling (outlines stay sharp)."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _paint_heat(canvas: Image.Image, heat: np.ndarray, opacity: float) -> Image.Image:
    values = np.ascontiguousarray(np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8))
    resized = np.asarray(Image.fromarray(values).resize(canvas.size, Image.Resampling.BILINEAR))
    level = resized.astype(np.float32) / 255
    alpha = opacity * np.clip((level - HEATMAP_FLOOR) / (0.5 - HEATMAP_FLOOR), 0, 1)[..., None]
    mixed = np.asarray(canvas) * (1 - alpha) + colour_table()[resized] * alpha
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _draw_outline(draw: ImageDraw.ImageDraw, mask: np.ndarray, scale: tuple[float, float], number: int) -> None:
    style = number % len(OUTLINES)
    for order, (x0, y0, x1, y1) in enumerate(outline_segments(mask)):
        # Every region after the first is drawn broken: it differs without its colour.
        if style == 0 or order % (style + 1) == 0:
            points = (x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1])
            draw.line(points, fill=OUTLINES[style][0], width=2)


def _draw_edges(draw: ImageDraw.ImageDraw, edges: tuple[str, str, str, str], size: tuple[int, int]) -> None:
    width, height = size
    left, right, top, bottom = edges
    places = (
        (8, height / 2, left),
        (width - 8, height / 2, right),
        (width / 2, 9, top),
        (width / 2, height - 9, bottom),
    )
    for x, y, letter in places:
        draw.text((x, y), letter, fill="white", anchor="mm", font_size=14, stroke_width=2, stroke_fill="black")
