"""The same statistics on plain DataFrames: a row a case, a column a class with its probability."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pipelines.statistics.classes import METRICS, Metric
from pipelines.statistics.estimates import N_BOOTSTRAP, bootstrap


def measure_frame(
    frame: pd.DataFrame,
    classes: Sequence[str],
    *,
    truth: str = "truth",
    patient: str | None = None,
    metrics: Mapping[str, Metric] = METRICS,
    n_resamples: int = N_BOOTSTRAP,
) -> pd.DataFrame:
    """Return one row a metric: `value, low, high, n`, intervals by bootstrap over patients.

    Args:
        frame: Columns `classes` hold probabilities, `truth` the right class by name; rows without truth are left out.
        classes: Names of the classes, which are also names of columns.
        truth: Name of the truth column.
        patient: Name of the column that says whose row it is; None where every row is another patient.
        metrics: Functions of (class indices, probabilities).
        n_resamples: Bootstrap resamples.
    Raises:
        ValueError: For a missing column or a truth that is no class.
    """
    missing = [name for name in (*classes, truth, *([patient] if patient else [])) if name not in frame.columns]
    if missing:
        raise ValueError(f"Expected the columns {', '.join(missing)} (got {', '.join(map(str, frame.columns))}).")
    known = frame[frame[truth].notna()]
    strange = set(known[truth]) - set(classes)
    if strange:
        raise ValueError(f"Expected classes {', '.join(classes)} in {truth!r} (got also {sorted(strange)[0]!r}).")
    target = known[truth].map({name: index for index, name in enumerate(classes)}).to_numpy(dtype=int)
    chances = known[list(classes)].to_numpy(dtype=float)
    owners = None if patient is None else known[patient].to_numpy()
    rows = {
        name: bootstrap(metric, target, chances, patients=owners, n_resamples=n_resamples).to_dict()
        for name, metric in metrics.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def measure_subgroups(frame: pd.DataFrame, classes: Sequence[str], by: str, **options: object) -> pd.DataFrame:
    """Return `measure_frame` of each value of column `by`, stacked under a first index level of that name."""
    groups = {str(value): measure_frame(part, classes, **options) for value, part in frame.groupby(by)}  # type: ignore[arg-type]  # options are those of measure_frame
    return pd.concat(groups, names=[by, "metric"])


def age_bands(ages_years: np.ndarray, edges_years: Sequence[float] = (18, 40, 60, 75)) -> np.ndarray:
    """Return a label (N,) such as `40-59` for each age, empty where it is not known."""
    ends = [0.0, *edges_years]
    labels = [f"{low:.0f}-{high - 1:.0f}" for low, high in itertools.pairwise(ends)] + [f"{ends[-1]:.0f}+"]
    known = np.isfinite(ages_years)
    bands = np.digitize(np.where(known, ages_years, 0.0), edges_years)
    return np.where(known, np.array(labels)[bands], "")
