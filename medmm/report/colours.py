"""Colours of the pictures: a perceptually uniform map for heatmaps, and line styles that differ by more than colour.

The map is `magma` by Nathaniel Smith and Stefan van der Walt (matplotlib, CC0): 64 of its 256 colours, interpolated.
"""

import numpy as np

_MAGMA_64 = bytes.fromhex(
    "0000030101090303110605190a07220e0a2a120d33170f3c1c10462211502811592f1062350f6a3c0f71430f754a107950127b57147d5d177e"
    "63197f691c806f1e817621817c23818225818928818f2a80952c809c2e7fa3307ea9327cb0347bb63679bd3977c33b74ca3e72d0416fd6446c"
    "dc4869e14c66e65162eb5660ee5d5df2635cf56a5bf7715bf9795cfa805efb8861fc9064fd9768fd9f6cfea671feae76feb57cfebc82fec488"
    "fecb8efdd295fdda9cfde1a3fce8aafcf0b1fbf7b9"
)
# Outlines are also dashed differently, so that two regions differ without colour.
OUTLINES: tuple[tuple[str, str], ...] = (("#35d0ff", ""), ("#ffd23f", "4 3"), ("#7dff9a", "1 3"), ("#ff9df0", "8 3"))


def colour_table() -> np.ndarray:
    """The heatmap's colours (256, 3) uint8, from low to high attribution."""
    anchors = np.frombuffer(_MAGMA_64, dtype=np.uint8).reshape(64, 3).astype(float)
    codes = np.clip(np.arange(256), 0, 252)  # the anchors are colours 0, 4, ... 252
    columns = [np.interp(codes, np.arange(0, 256, 4), anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(columns, axis=1)).astype(np.uint8)
