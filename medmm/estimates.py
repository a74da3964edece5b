"""A number with an interval from the probabilities of intervals: a time to an event, or a value."""

from collections.abc import Sequence

import numpy as np

from medmm.results import ValueEstimate

SURVIVAL_COVERAGE = 0.8  # share of the predicted distribution between the two times that are shown


def estimate_time(chances: np.ndarray, edges: Sequence[float], unit: str) -> ValueEstimate:
    """Return the median time to the event and the times before which a tenth and nine tenths of it are expected.

    They are quantiles of the predicted curve, straight between the edges; no coverage is claimed for them.

    Args:
        chances: (L,) probability of the event in each interval; the last has no end.
        edges: (L-1,) where intervals end.
        unit: Of the edges.
    """
    tail = (1 - SURVIVAL_COVERAGE) / 2
    low, middle, high = (quantile_time(chances, edges, share) for share in (tail, 0.5, 1 - tail))
    return ValueEstimate(
        value=middle, low=low, high=high, unit=unit, coverage=SURVIVAL_COVERAGE, limit=float(edges[-1])
    )


def quantile_time(chances: np.ndarray, edges: Sequence[float], share: float) -> float | None:
    """Return when the event has come in a share of cases, or None where that is beyond the last edge.

    >>> quantile_time(np.array([0.5, 0.25, 0.25]), [10.0, 20.0], 0.5)
    10.0
    """
    times, reached = np.array([0.0, *edges]), np.concatenate([[0.0], np.cumsum(chances[:-1])])
    if share > reached[-1]:
        return None
    after = int(np.searchsorted(reached, share, side="left"))
    step = reached[after] - reached[after - 1]
    part = (share - reached[after - 1]) / step if step > 0 else 1.0
    return float(times[after - 1] + part * (times[after] - times[after - 1]))


def estimate_value(
    chances: np.ndarray, edges: Sequence[float], unit: str, inside: Sequence[int], coverage: float
) -> ValueEstimate:
    """Return the expected value, and the range of the bins that the prediction set holds at `coverage`.

    Args:
        chances: (L,) probability of each bin.
        edges: (L+1,) where bins begin and end.
        unit: Of the edges.
        inside: Bins in the prediction set; the most probable one where it is empty.
        coverage: Of the prediction set.
    """
    bounds = np.array(edges)
    kept = list(inside) or [int(chances.argmax())]
    return ValueEstimate(
        value=float(chances @ ((bounds[:-1] + bounds[1:]) / 2)),
        low=float(bounds[min(kept)]),
        high=float(bounds[max(kept) + 1]),
        unit=unit,
        coverage=coverage,
        limit=float(bounds[-1]),
    )
