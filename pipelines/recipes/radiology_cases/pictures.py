"""Screen captures to squares of one size: what is black around the patient is cut off, the rest keeps its shape."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medmm.errors import UsageError

logger = logging.getLogger(__name__)

SIZE = 224
_DARK = 16  # of 255
# The collection's logo: it is in every picture, and would keep black borders from being cut off.
_LOGO_HEIGHT, _LOGO_WIDTH = 0.1, 0.4


def read_pictures(folder: Path, files: Sequence[str]) -> np.ndarray:
    """Return uint8 (N, SIZE, SIZE).

    Raises:
        UsageError: `config.table` for a file that is missing or no picture.
    """
    squares = np.zeros((len(files), SIZE, SIZE), dtype=np.uint8)
    for row, name in enumerate(files):
        try:
            with Image.open(folder / name) as picture:
                squares[row] = to_square(np.asarray(picture.convert("L")))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"Expected a picture for every image of every case (number {row + 1} of {len(files)} cannot be read).",
                code="config.table",
            ) from error
    return squares


def to_square(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (SIZE, SIZE): the part of a grey picture (H, W) that is not black, centred on black."""
    bright = pixels > _DARK
    bright[
        : round(_LOGO_HEIGHT * pixels.shape[0]),
        round((1 - _LOGO_WIDTH) * pixels.shape[1]) :,
    ] = False
    rows, columns = (
        np.flatnonzero(bright.sum(axis=1) > 2),
        np.flatnonzero(bright.sum(axis=0) > 2),
    )
    if len(rows) and len(columns):
        pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = SIZE / max(pixels.shape)
    width, height = (max(1, round(length * scale)) for length in (pixels.shape[1], pixels.shape[0]))
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    square = np.zeros((SIZE, SIZE), dtype=np.uint8)
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square
