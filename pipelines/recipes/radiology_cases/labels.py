"""Labels as arrays, and the tasks they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.recipes.radiology_cases.cases import (
    LOCATIONS,
    MODALITIES,
    PLANES,
    SUPERCLASSES,
    UNKNOWN,
    CaseTarget,
    Diagnosis,
)

CASE_TASKS: Mapping[str, tuple[str, ...]] = {
    "location": LOCATIONS,
    "superclass": SUPERCLASSES,
}
PICTURE_TASKS: Mapping[str, tuple[str, ...]] = {
    **CASE_TASKS,
    "modality": MODALITIES,
    "plane": PLANES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Class indices of cases (N) and pictures (P) by task, and the diagnosis (N,) of cases; -1 where unknown."""

    case: Mapping[str, np.ndarray]
    picture: Mapping[str, np.ndarray]
    diagnosis: np.ndarray

    def only(self, rows: np.ndarray, owner: np.ndarray) -> "Labels":
        """Return the labels of the cases where `rows` (N,) is true; `owner` (P,) says whose pictures are whose."""
        return Labels(
            case={name: np.where(rows, values, UNKNOWN) for name, values in self.case.items()},
            picture={name: np.where(rows[owner], values, UNKNOWN) for name, values in self.picture.items()},
            diagnosis=np.where(rows, self.diagnosis, UNKNOWN),
        )

    @property
    def known(self) -> np.ndarray:
        """(N,) whether a case has any label."""
        return (self.diagnosis >= 0) | np.any([values >= 0 for values in self.case.values()], axis=0)


def labels_of(targets: Sequence[CaseTarget], diagnoses: Sequence[Diagnosis]) -> Labels:
    """Return the labels of cases as arrays."""
    position = {one.key: at for at, one in enumerate(diagnoses)}
    counts = [len(case.pictures) for case in targets]
    pictures = [one for case in targets for one in case.pictures]
    case = {task: np.array([getattr(one, task) for one in targets], dtype=np.int64) for task in CASE_TASKS}
    own = {task: np.array([getattr(one, task) for one in pictures], dtype=np.int64) for task in ("modality", "plane")}
    return Labels(
        case=case,
        picture={task: np.repeat(values, counts) for task, values in case.items()} | own,
        diagnosis=np.array([position.get(one.diagnosis, UNKNOWN) for one in targets], dtype=np.int64),
    )
