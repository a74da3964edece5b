"""The experts: what each modality teaches about a case, fitted on the cases whose labels are known.

Words, the meaning of the text (MiniLM), age and sex, and the pictures each have classifiers of their own; two ridge
maps read a diagnosis's name out of a text; tables say what is known of each diagnosis. `opinions` asks them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pipelines.recipes.radiology_cases.cases import CaseInput, Diagnosis
from pipelines.recipes.radiology_cases.features import TEXT_SETTINGS, Features
from pipelines.recipes.radiology_cases.labels import CASE_TASKS, PICTURE_TASKS, Labels
from pipelines.training.following import chances_given
from pipelines.training.lexicon import Lexicon, fit_lexicon
from pipelines.training.linear import Linear, fit_linear

# Inverse strengths of the classifiers' penalties, and strengths of the ridge maps', set by hand.
_PICTURE_C, _MEANING_C, _WORD_C, _NAME_C, _RECORD_C = 3e-3, 25.0, 10.0, 4.0, 1.0
_RIDGE, _WORD_RIDGE = 3.0, 1.0
_NAME_VECTOR = 1.5  # weight of the name's vector beside its letters
_LIMIT = 3.0  # deviations
_YEARS = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Everything fitted on one set of cases.

    `tables` (n, L): chances of each class given a diagnosis. `meaning_to_name` (384, 384) and `words_to_name` (C, 384)
    map a text, less `text_mean`, to where its diagnosis's name should lie.
    """

    picture_mean: np.ndarray
    picture_deviation: np.ndarray
    pictures: Mapping[str, Linear]
    lexicon: Lexicon
    words: Mapping[str, Linear]
    meaning: Mapping[str, Linear]
    record: Mapping[str, Linear]
    tables: Mapping[str, np.ndarray]
    text_mean: np.ndarray
    meaning_to_name: np.ndarray
    words_to_name: np.ndarray

    def standard_pictures(self, features: np.ndarray) -> np.ndarray:
        """Return picture features (P, F) standardised by the training pictures, far ones drawn in."""
        return _standard(features, self.picture_mean, self.picture_deviation)


def fit_experts(
    features: Features,
    labels: Labels,
    diagnoses: Sequence[Diagnosis],
    names: np.ndarray,
) -> Experts:
    """Return experts fitted on the cases that have labels.

    Args:
        features: All cases at hand.
        labels: Theirs; -1 for every case that must not be learned from (`Labels.only`).
        diagnoses: The candidates (n).
        names: (n, 384) vectors of their names.
    """
    rows = np.flatnonzero(labels.known)
    shown = features.pictures[np.isin(features.owner, rows)]
    mean, deviation = shown.mean(axis=0), shown.std(axis=0) + 1e-3
    looks = _standard(features.pictures, mean, deviation)
    lexicon = fit_lexicon([features.views["hef"].texts[row] for row in rows])
    views = {setting: features.views[setting] for setting in TEXT_SETTINGS}
    words = {name: lexicon.vectors([view.texts[row] for row in rows]) for name, view in views.items()}
    vectors = {name: view.vectors[rows] for name, view in views.items()}
    records = record_vectors([features.cases[row] for row in rows])
    known = np.flatnonzero(labels.diagnosis[rows] >= 0)
    wanted = np.tile(centred_names(names)[labels.diagnosis[rows][known]], (len(views), 1))
    text_mean = np.mean([part.mean(axis=0) for part in vectors.values()], axis=0)
    return Experts(
        picture_mean=mean,
        picture_deviation=deviation,
        pictures={
            task: fit_linear(looks, labels.picture[task], len(classes), c=_PICTURE_C)
            for task, classes in PICTURE_TASKS.items()
        },
        lexicon=lexicon,
        words={
            by_setting(task, name): fit_linear(part, labels.case[task][rows], len(classes), c=_WORD_C)
            for task, classes in CASE_TASKS.items()
            for name, part in words.items()
        },
        meaning={
            by_setting(task, name): fit_linear(part, labels.case[task][rows], len(classes), c=_MEANING_C)
            for task, classes in CASE_TASKS.items()
            for name, part in vectors.items()
        },
        record={
            task: fit_linear(records, labels.case[task][rows], len(names_), c=_RECORD_C)
            for task, names_ in CASE_TASKS.items()
        },
        tables={task: diagnosis_table(diagnoses, names, labels, task) for task in CASE_TASKS},
        text_mean=text_mean,
        meaning_to_name=_ridge(np.concatenate([part[known] - text_mean for part in vectors.values()]), wanted, _RIDGE),
        words_to_name=_ridge(sparse.vstack([part[known] for part in words.values()], "csr"), wanted, _WORD_RIDGE),
    )


def by_setting(task: str, setting: str) -> str:
    """Return the name of the text classifiers of a task: what a history gives away, findings may contradict."""
    return f"{task}-{setting}"


def record_vectors(cases: Sequence[CaseInput]) -> np.ndarray:
    """Return (N, 5): age, its square, whether it is known, male, female. An age of 0 usually means not given."""
    rows = []
    for case in cases:
        age = float(case.age) / _YEARS if case.age.isdigit() and 0 < int(case.age) < 130 else 0.0
        rows.append(
            [
                age,
                age**2,
                float(age > 0),
                float(case.sex == "male"),
                float(case.sex == "female"),
            ]
        )
    return np.array(rows).reshape(-1, 5)


def centred_names(names: np.ndarray) -> np.ndarray:
    """Return names (n, 384) less their mean, of length 1: what tells one diagnosis from the others."""
    centred = names - names.mean(axis=0)
    result: np.ndarray = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    return result


def diagnosis_table(diagnoses: Sequence[Diagnosis], names: np.ndarray, labels: Labels, task: str) -> np.ndarray:
    """Return chances (n, L) of each class given a diagnosis: from its training cases and from its name."""
    spoken = [" ; ".join(one.names) for one in diagnoses]
    letters = fit_lexicon(spoken).vectors(spoken)
    described = sparse.hstack([names * _NAME_VECTOR, letters], format="csr")
    return chances_given(described, labels.diagnosis, labels.case[task], len(CASE_TASKS[task]), c=_NAME_C)


def _standard(features: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    result: np.ndarray = ((features - mean) / deviation).clip(-_LIMIT, _LIMIT).astype(np.float32)
    return result


def _ridge(rows: np.ndarray | sparse.csr_matrix, wanted: np.ndarray, strength: float) -> np.ndarray:
    """Return the map (F, 384) of ridge regression, by its dual: there are fewer rows than features."""
    gram = rows @ rows.T
    gram = gram.toarray() if sparse.issparse(gram) else gram
    dual = np.linalg.solve(gram + strength * np.eye(len(gram)), wanted)
    return np.asarray(rows.T @ dual, dtype=np.float32)
