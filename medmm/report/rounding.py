"""The one rule for numbers that are written: four significant digits, never finer than 0.000001.

Results of the same input differ in the last bits between batch sizes and worker counts; rounding keeps files equal.
"""

import math

SIGNIFICANT_DIGITS = 4
FINEST_DECIMALS = 6
RULE = f"Numbers are rounded to {SIGNIFICANT_DIGITS} significant digits, never finer than 0.000001."


def rounded(value: float) -> float:
    """Return the number as it is written.

    Raises:
        ValueError: If the number is not finite; no output may hold NaN or infinity.
    >>> [rounded(x) for x in (0.123456, 0.9999999, 1234.56, 0.0000004, -0.0)]
    [0.1235, 1.0, 1235.0, 0.0, 0.0]
    """
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"Expected a finite number (got {number}).")
    if number == 0:
        return 0.0
    decimals = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(number)))
    # `+ 0.0` turns the minus zero of a tiny negative number into zero.
    return round(number, min(decimals, FINEST_DECIMALS)) + 0.0


def rounded_or_none(value: float) -> float | None:
    """Return the rounded number, or None where it is not finite (a check that could not be computed)."""
    return rounded(value) if math.isfinite(float(value)) else None
