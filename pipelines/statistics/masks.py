"""How well a region was delineated."""

import numpy as np
from scipy import ndimage


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Overlap 2|A∩B| / (|A|+|B|) of two masks; 1 where both are empty (Dice, Ecology 1945)."""
    total = int(predicted.sum()) + int(truth.sum())
    return 1.0 if total == 0 else float(2 * np.logical_and(predicted, truth).sum() / total)


def hausdorff_95(predicted: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    """Return the 95th percentile of surface distances in mm, the larger of the two directions.

    0 where both masks are empty, NaN where one is: there is no distance to nothing. Surfaces are the marked voxels with
    an unmarked face neighbour.

    Source: Huttenlocher et al., IEEE TPAMI 1993; the 95 % form as in the BraTS challenges.
    """
    predicted, truth = predicted.astype(bool), truth.astype(bool)
    if not predicted.any() and not truth.any():
        return 0.0
    if not predicted.any() or not truth.any():
        return float("nan")
    first, second = _surface(predicted), _surface(truth)
    to_second = ndimage.distance_transform_edt(~second, sampling=spacing_mm)[first]
    to_first = ndimage.distance_transform_edt(~first, sampling=spacing_mm)[second]
    return float(max(np.percentile(to_second, 95), np.percentile(to_first, 95)))


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)
