"""Who is held out when: always whole patients, with the classes spread alike."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from medmm.errors import UsageError
from pipelines.manifest import ManifestRow
from pipelines.training.recipe import ValidationRecipe

VALIDATION_SPLIT = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Rows to learn from and rows to answer, by index; `name` is a folder's name too."""

    name: str
    repeat: int
    train: np.ndarray
    test: np.ndarray


def build_folds(
    rows: Sequence[ManifestRow], targets: Mapping[str, np.ndarray], spec: ValidationRecipe, seed: int
) -> list[Fold]:
    """Return the folds of a scheme; no patient is in both parts of one.

    Raises:
        UsageError: `config.table` where the rows do not allow the scheme.
    """
    patients = np.array([row.patient for row in rows], dtype=object)
    if spec.scheme == "split":
        held_out = np.array([row.split == VALIDATION_SPLIT for row in rows])
        return [_fold("split", 0, held_out, "rows of split `validation` and others")]
    if spec.scheme == "by-group":
        groups = [row.record.get(spec.group, "") for row in rows]
        _check_groups(patients, groups, spec.group)
        values = sorted(set(groups))
        needed = f"two values of record.{spec.group}"
        return [
            _fold(f"group-{n}", 0, np.array([group == value for group in groups]), needed)
            for n, value in enumerate(values)
        ]
    strata = strata_of(rows, targets, spec.stratify)
    folds = []
    for repeat in range(spec.repeats):
        part = patient_folds(patients, strata, spec.folds, seed + repeat)
        folds += [_fold(f"fold-{repeat}-{n}", repeat, part == n, "patients in every fold") for n in range(spec.folds)]
    return folds


def strata_of(rows: Sequence[ManifestRow], targets: Mapping[str, np.ndarray], tasks: Sequence[str]) -> np.ndarray:
    """Return a stratum (N,) for each row: its classes of the named tasks, of all by default, -1 where unknown."""
    names = tasks or sorted(targets)
    return np.array(
        ["/".join(str(targets[name][row].tolist()) for name in names) for row in range(len(rows))], dtype=object
    )


def patient_folds(patients: np.ndarray, strata: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold (N,) in which each row is tested; all rows of a patient are in one, strata are spread alike.

    Raises:
        UsageError: `config.table` for fewer patients than folds.
    """
    unique, first, code = np.unique(patients.astype(str), return_index=True, return_inverse=True)
    if len(unique) < n_folds:
        raise UsageError(f"Expected at least {n_folds} patients for {n_folds} folds (got {len(unique)}).",
                         code="config.table", remedy="Use fewer folds.")  # fmt: skip
    fold_of_patient = np.zeros(len(unique), dtype=int)
    splitter = StratifiedKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # rare strata cannot be in every fold
        warnings.filterwarnings("ignore", message="The least populated class in y has only .*")
        kinds = _merged(strata[first].astype(str), n_folds)
        for fold, (_, test) in enumerate(splitter.split(np.zeros(len(unique)), kinds)):
            fold_of_patient[test] = fold
    return fold_of_patient[code]


def hold_out(patients: np.ndarray, strata: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return which rows (N,) of these decide when to stop: about `share` of the patients, at least one."""
    unique, first, code = np.unique(patients.astype(str), return_index=True, return_inverse=True)
    kinds = _merged(strata[first].astype(str), 2)
    count = max(1, round(share * len(unique)))
    can_stratify = count >= len(np.unique(kinds)) <= len(unique) - count
    _, chosen = train_test_split(
        np.arange(len(unique)), test_size=count, random_state=seed, stratify=kinds if can_stratify else None
    )
    return np.isin(code, chosen)


def _merged(strata: np.ndarray, minimum: int) -> np.ndarray:
    """Strata with fewer patients than `minimum` become one; that one joins the largest where it is too small itself."""
    names, counts = np.unique(strata, return_counts=True)
    rare = names[counts < minimum]
    merged = np.where(np.isin(strata, rare), "rare", strata)
    if 0 < (merged == "rare").sum() < minimum and len(rare) < len(names):
        merged = np.where(merged == "rare", names[counts.argmax()], merged)
    return merged


def _fold(name: str, repeat: int, held_out: np.ndarray, needed: str) -> Fold:
    if not held_out.any() or held_out.all():
        raise UsageError(f"Expected {needed} (the rows do not have them).", code="config.table")
    return Fold(name=name, repeat=repeat, train=np.flatnonzero(~held_out), test=np.flatnonzero(held_out))


def _check_groups(patients: np.ndarray, groups: Sequence[str], name: str) -> None:
    if not all(groups):
        raise UsageError(f"Expected record.{name} in every row (some are empty).", code="config.table")
    of_patient: dict[str, str] = {}
    for patient, group in zip(patients, groups, strict=True):
        if of_patient.setdefault(patient, group) != group:
            raise UsageError(f"A patient has two values of record.{name}.", code="config.table")
