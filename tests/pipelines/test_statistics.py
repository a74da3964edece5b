"""Metrics and their intervals, held against what is known of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipelines.statistics import (
    METRICS,
    accuracy,
    auroc,
    balanced_accuracy,
    bootstrap,
    expected_calibration_error,
    paired_difference,
)


def predictions(seed: int, n: int = 60, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Classes (N,) and probabilities (N, L) that know a little about them."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes)) + 0.8 * np.eye(n_classes)[truth]
    chances = np.exp(logits)
    return truth, chances / chances.sum(axis=1, keepdims=True)


def test_the_interval_covers_the_true_share_about_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(120):
        estimate = bootstrap(lambda column: float(column.mean()), rng.random(80) < 0.7, seed=seed, n_resamples=200)
        covered.append(estimate.low <= 0.7 <= estimate.high)

    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_estimate_lies_within_its_interval() -> None:
    estimate = bootstrap(accuracy, *predictions(0))

    assert estimate.low < estimate.value < estimate.high
    assert estimate.n == 60


def test_the_same_seed_gives_the_same_interval() -> None:
    assert bootstrap(accuracy, *predictions(0), seed=3) == bootstrap(accuracy, *predictions(0), seed=3)


def test_resamples_of_one_class_are_drawn_again() -> None:
    truth, chances = predictions(0, n=6, n_classes=2)
    truth[:] = [0, 0, 0, 0, 0, 1]

    estimate = bootstrap(auroc, truth, chances, n_resamples=100)

    assert np.isfinite([estimate.low, estimate.high]).all()


def test_a_metric_that_is_never_defined_has_no_interval() -> None:
    truth, chances = predictions(0, n_classes=2)

    estimate = bootstrap(auroc, np.zeros_like(truth), chances, n_resamples=10)

    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()


@pytest.mark.parametrize("name", sorted(METRICS))
def test_equal_scores_differ_by_nothing(name: str) -> None:
    truth, chances = predictions(0)

    difference = paired_difference(METRICS[name], truth, chances, chances)

    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_a_better_model_has_a_difference_above_zero() -> None:
    truth, weak = predictions(0, n=150)

    difference = paired_difference(accuracy, truth, np.eye(3)[truth], weak)

    assert difference.low > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_auroc_is_that_of_scikit_learn_for_all_two_class_predictions(seed: int) -> None:
    truth, chances = predictions(seed, n_classes=2)

    assert auroc(truth, chances) == pytest.approx(roc_auc_score(truth, chances[:, 1]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_auroc_is_that_of_scikit_learn_for_all_three_class_predictions(seed: int) -> None:
    truth, chances = predictions(seed)

    expected = roc_auc_score(truth, chances, multi_class="ovr", average="macro")
    assert auroc(truth, chances) == pytest.approx(expected)


def test_balanced_accuracy_counts_classes_alike() -> None:
    truth = np.array([0] * 9 + [1])

    assert balanced_accuracy(truth, np.tile([1.0, 0.0], (10, 1))) == pytest.approx(0.5)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    truth = np.array([0, 1, 0, 1])
    sure = np.eye(2)[truth]

    assert expected_calibration_error(truth, sure) == 0
    assert expected_calibration_error(1 - truth, sure) == 1


def test_an_estimate_reads_as_papers_write_it() -> None:
    estimate = bootstrap(lambda column: float(column.mean()), np.ones(5), n_resamples=10)

    assert str(estimate) == "1.000 (95% CI 1.000 to 1.000, n=5)"
