"""Simple rivals of the model: logistic regressions on what anybody would try first, on the same patients."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from medmm.encoders.volume import N_POSITION
from medmm.inputs import CaseView
from medmm.location import location_terms
from pipelines.recipes.glioma_mri.data import ROLES, Patient
from pipelines.recipes.glioma_mri.spec import LABELS
from pipelines.recipes.glioma_mri.what import summary_of
from pipelines.training.what import IMPOSSIBLE_LOGIT, UNKNOWN

Describe = Callable[[Sequence[Patient], Sequence[CaseView]], np.ndarray]
Answers = dict[str, np.ndarray]
_N_DESCRIBED = N_POSITION + 3 * len(ROLES)  # of the lesion: position, then intensity, contrast, presence by sequence


def _record(patients: Sequence[Patient], views: Sequence[CaseView]) -> np.ndarray:
    """Age and sex (N, 2); NaN where unknown."""
    return np.array(
        [[np.nan if p.age is None else p.age, np.nan if p.sex is None else float(p.sex == "male")] for p in patients]
    )


def _lesion(patients: Sequence[Patient], views: Sequence[CaseView]) -> np.ndarray:
    """Position, size, intensity and contrast of what the trunk marks (N, P)."""
    return np.concatenate([summary_of(view).lesion[:, -_N_DESCRIBED:].numpy() for view in views])


def _position(patients: Sequence[Patient], views: Sequence[CaseView]) -> np.ndarray:
    return _lesion(patients, views)[:, :N_POSITION]


def _intensity(patients: Sequence[Patient], views: Sequence[CaseView]) -> np.ndarray:
    return _lesion(patients, views)[:, N_POSITION:]


def _everything(patients: Sequence[Patient], views: Sequence[CaseView]) -> np.ndarray:
    return np.concatenate([_record(patients, views), _lesion(patients, views)], axis=1)


# What is known when the images are read.
BASELINES: dict[str, Describe] = {
    "age and sex": _record,
    "position": _position,
    "intensity": _intensity,
    "position and intensity": _lesion,
    "age, sex, position and intensity": _everything,
}
# Where the readers drew the lesion: what location tasks could answer from perfect masks.
READERS = "readers' masks"
# What is known from the tissue only: no rival, but a mark of how much there is to know.
TISSUE = "tissue clusters"


def answer_by_baselines(
    patients: Sequence[Patient], views: Sequence[CaseView], targets: Answers, train: np.ndarray, test: np.ndarray
) -> dict[str, Answers]:
    """Return log-probabilities (T, L) by baseline and fusion task of the patients `test`, learned from `train`.

    The cluster of clusters is made from the tissue clusters, so they do not answer it.
    """
    columns = {name: describe(patients, views) for name, describe in BASELINES.items()}
    columns[TISSUE] = DictVectorizer(sparse=False).fit_transform([patient.tissue for patient in patients])
    answers: dict[str, Answers] = {name: {} for name in columns}
    for task in LABELS.fusion_tasks():
        rows = train[targets[task.name][train] != UNKNOWN]
        for name, values in columns.items():
            if name == TISSUE and task.name == "coc2":
                continue
            fitted = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(
                values[rows], targets[task.name][rows]
            )
            answers[name][task.name] = fitted.predict_log_proba(values[test])
    return answers


def answer_from_masks(
    positions: Float[Tensor, "N 7"], targets: Answers, train: np.ndarray, test: np.ndarray
) -> dict[str, Answers]:
    """Return log-probabilities (T, L) by location task, from `lesion_position` of the readers' masks."""
    answers: Answers = {}
    for task in LABELS.location_tasks():
        rows, terms = train[targets[task.name][train] != UNKNOWN], location_terms(positions, task.laterality).numpy()
        fitted = LogisticRegression(C=10.0, max_iter=2000).fit(terms[rows], targets[task.name][rows])
        answers[task.name] = np.full((len(test), len(task.classes)), IMPOSSIBLE_LOGIT)
        answers[task.name][:, fitted.classes_] = fitted.predict_log_proba(terms[test])
    return {READERS: answers}
