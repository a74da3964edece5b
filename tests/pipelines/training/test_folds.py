"""Folds keep patients whole and classes alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmm.errors import UsageError
from pipelines.manifest import ManifestRow
from pipelines.training.folds import build_folds, hold_out, patient_folds
from pipelines.training.recipe import ValidationRecipe


def rows_of(n: int, per_patient: int = 1, **record: list[str]) -> list[ManifestRow]:
    return [
        ManifestRow(
            case=f"c{i}", patient=f"p{i // per_patient}", record={name: values[i] for name, values in record.items()}
        )
        for i in range(n)
    ]


@settings(max_examples=40, deadline=None)
@given(n_patients=st.integers(6, 40), n_folds=st.integers(2, 6), per_patient=st.integers(1, 3), seed=st.integers(0, 99))
def test_no_patient_is_in_two_folds_for_all_sizes(n_patients: int, n_folds: int, per_patient: int, seed: int) -> None:
    patients = np.repeat(np.arange(n_patients), per_patient).astype(str)
    strata = np.random.default_rng(seed).integers(0, 3, len(patients)).astype(str)

    fold = patient_folds(patients, strata, n_folds, seed)

    assert set(fold.tolist()) == set(range(n_folds))
    assert all(len(set(fold[patients == patient].tolist())) == 1 for patient in set(patients.tolist()))


def test_folds_hold_classes_alike() -> None:
    strata = np.array(["rare"] * 10 + ["common"] * 40)

    fold = patient_folds(np.arange(50).astype(str), strata, 5, 0)

    assert [int((strata[fold == n] == "rare").sum()) for n in range(5)] == [2] * 5


def test_every_row_is_tested_once_in_each_repeat() -> None:
    folds = build_folds(rows_of(30, 2), {"t": np.arange(30) % 2}, ValidationRecipe(folds=3, repeats=2), 0)

    for repeat in (0, 1):
        tested = np.concatenate([fold.test for fold in folds if fold.repeat == repeat])
        assert sorted(tested.tolist()) == list(range(30))
    assert not np.array_equal(folds[0].test, folds[3].test)


def test_a_site_is_left_out_whole() -> None:
    sites = ["A"] * 4 + ["B"] * 6 + ["C"] * 2
    spec = ValidationRecipe(scheme="by-group", group="site")

    folds = build_folds(rows_of(12, site=sites), {"t": np.zeros(12, int)}, spec, 0)

    assert [len(fold.test) for fold in folds] == [4, 6, 2]
    assert not set(folds[0].train.tolist()) & set(folds[0].test.tolist())


def test_a_case_without_a_site_is_refused() -> None:
    spec = ValidationRecipe(scheme="by-group", group="site")

    with pytest.raises(UsageError, match=r"record.site in every row"):
        build_folds(rows_of(2, site=["A", ""]), {"t": np.zeros(2, int)}, spec, 0)


def test_a_patient_of_two_sites_is_refused() -> None:
    spec = ValidationRecipe(scheme="by-group", group="site")

    with pytest.raises(UsageError, match="two values"):
        build_folds(rows_of(4, 2, site=["A", "B", "A", "A"]), {"t": np.zeros(4, int)}, spec, 0)


def test_fewer_patients_than_folds_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 5 patients"):
        build_folds(rows_of(8, 2), {"t": np.zeros(8, int)}, ValidationRecipe(), 0)


@settings(max_examples=40, deadline=None)
@given(n_patients=st.integers(4, 40), share=st.floats(0.05, 0.4), seed=st.integers(0, 99))
def test_those_who_say_when_to_stop_are_whole_patients_for_all_sizes(n_patients: int, share: float, seed: int) -> None:
    patients = np.repeat(np.arange(n_patients), 2).astype(str)
    strata = np.random.default_rng(seed).integers(0, 3, len(patients)).astype(str)

    stops = hold_out(patients, strata, share, seed)

    assert 0 < stops.sum() < len(patients)
    assert (stops.reshape(-1, 2).sum(axis=1) % 2 == 0).all()
