"""Order of survival times under censoring."""

import numpy as np


def interval_concordance(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the C-index of predicted time intervals: the risk is how early the event is expected.

    Args:
        truth: (N, 2), the interval where follow-up ended, and 1 where the event ended it.
        probabilities: (N, L) of the event in each interval, in order of time.
    """
    expected = probabilities @ np.arange(probabilities.shape[1])
    return concordance_index(truth[:, 0].astype(float), -expected, truth[:, 1] > 0)


def concordance_index(time: np.ndarray, risk: np.ndarray, is_event: np.ndarray) -> float:
    """Return Harrell's C: of the pairs whose order is known, the share with the higher risk for the earlier event.

    A pair counts if the earlier time is an event, or if the times are equal and one of the two is an event and the
    other is censored. Equal risks count half. NaN without such pairs.

    Args:
        time: (N,) until event or censoring, any unit.
        risk: (N,), higher means earlier.
        is_event: (N,) bool, False where censored.

    Source: Harrell, Lee and Mark, Statistics in Medicine 1996;15:361-387.
    """
    earlier = time[:, None] < time[None]
    tied = (time[:, None] == time[None]) & ~is_event[None]
    known = is_event[:, None] & (earlier | tied)
    if not known.any():
        return float("nan")
    above = (risk[:, None] > risk[None]) + 0.5 * (risk[:, None] == risk[None])
    return float(above[known].mean())
