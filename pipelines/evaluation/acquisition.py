"""The acquisition-only control: what can be answered from how a case was scanned, without looking at the patient.

Voxel sizes, matrix, number of slices, which sequences there are, scanner and site. A model that is not better than this
may have learned the hospital.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medmm.types import Case

Facts = Mapping[str, float | str]
# Columns `record.<name>` of a manifest that say where and on what a case was acquired.
ACQUISITION_COLUMNS = ("site", "scanner", "manufacturer", "field_strength_t")
MAX_FOLDS = 5


def acquisition_facts(case: Case) -> dict[str, float | str]:
    """Return voxel sizes (mm), matrix and slices of each series, and which series there are."""
    facts: dict[str, float | str] = {}
    for role, volume in case.volumes.items():
        facts[f"{role}.present"] = 1.0
        facts[f"{role}.modality"] = volume.modality
        for axis, size, spacing in zip("ijk", volume.shape, volume.spacing_mm, strict=True):
            facts[f"{role}.size_{axis}"] = float(size)
            facts[f"{role}.spacing_{axis}_mm"] = spacing
    return facts


def record_facts(record: Mapping[str, str]) -> dict[str, str]:
    """Return the acquisition columns of a record, as categories."""
    return {name: record[name] for name in ACQUISITION_COLUMNS if record.get(name)}


def acquisition_answers(facts: Sequence[Facts], truth: np.ndarray, patients: np.ndarray, n_classes: int) -> np.ndarray:
    """Return out-of-fold probabilities (N, L) of a logistic regression on the facts; folds keep patients together.

    NaN for all cases where a class has fewer than two patients: there is nothing to learn from and test on.
    """
    chances = np.full((len(truth), n_classes), np.nan)
    of_class = [len(np.unique(patients[truth == label])) for label in np.unique(truth)]
    n_folds = min(MAX_FOLDS, min(of_class, default=0))
    if len(of_class) < 2 or n_folds < 2:
        return chances
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    for train, test in folds.split(truth, truth, patients):
        if len(np.unique(truth[train])) < 2:
            return np.full_like(chances, np.nan)
        model = make_pipeline(
            DictVectorizer(sparse=False), StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)
        ).fit([facts[row] for row in train], truth[train])
        chances[test] = 0
        chances[np.ix_(test, model.classes_)] = model.predict_proba([facts[row] for row in test])
    return chances
