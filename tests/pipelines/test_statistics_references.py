"""Each statistic against an independent implementation, its definition by brute force, or a published example."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance
from scipy.stats import somersd
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from pipelines import statistics as stats

seeds = given(seed=st.integers(0, 10_000))
few = settings(max_examples=20, deadline=None)


def classes(seed: int, n: int = 70, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Classes (N,), each at least once, and coarse probabilities (N, L), so that ties occur."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    chances = np.round(rng.dirichlet(np.ones(n_classes), n) + 0.4 * np.eye(n_classes)[truth], 1) + 0.05
    return truth, chances / chances.sum(axis=1, keepdims=True)


@few
@seeds
def test_average_precision_is_that_of_scikit_learn_ties_included(seed: int) -> None:
    truth, chances = classes(seed, n_classes=2)

    assert stats.auprc(truth, chances) == pytest.approx(sklearn_metrics.average_precision_score(truth, chances[:, 1]))


@few
@seeds
def test_macro_f1_and_balanced_accuracy_are_those_of_scikit_learn(seed: int) -> None:
    truth, chances = classes(seed)
    answer = chances.argmax(axis=1)

    assert stats.macro_f1(truth, chances) == pytest.approx(sklearn_metrics.f1_score(truth, answer, average="macro"))
    assert stats.balanced_accuracy(truth, chances) == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(truth, answer)
    )


@few
@seeds
def test_quadratic_kappa_is_that_of_scikit_learn(seed: int) -> None:
    truth, chances = classes(seed, n_classes=4)

    expected = sklearn_metrics.cohen_kappa_score(truth, chances.argmax(axis=1), weights="quadratic")
    assert stats.quadratic_kappa(truth, chances) == pytest.approx(expected)


@few
@seeds
def test_top_k_is_that_of_scikit_learn_where_nothing_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, chances = rng.integers(0, 5, 50), rng.dirichlet(np.ones(5), 50)

    expected = sklearn_metrics.top_k_accuracy_score(truth, chances, k=2, labels=range(5))
    assert stats.top_k_accuracy(truth, chances, k=2) == pytest.approx(expected)


@few
@seeds
def test_brier_of_two_classes_is_twice_that_of_scikit_learn(seed: int) -> None:
    truth, chances = classes(seed, n_classes=2)

    expected = 2 * sklearn_metrics.brier_score_loss(truth, chances[:, 1])
    assert stats.brier(truth, chances) == pytest.approx(expected)


@few
@seeds
def test_concordance_without_censoring_is_somers_d_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    time, risk = rng.permutation(30).astype(float), rng.integers(0, 8, 30).astype(float)

    expected = (somersd(-time, risk).statistic + 1) / 2
    assert stats.concordance_index(time, risk, np.ones(30, bool)) == pytest.approx(expected)


def test_concordance_counts_only_pairs_whose_order_is_known() -> None:
    # Worked by hand: the first, censored at 1, is before nobody; 2 < 3 and 2 < 4 count, 3 < 4 does not (3 is censored).
    time, is_event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])

    assert stats.concordance_index(time, np.array([9.0, 2.0, 1.0, 3.0]), is_event) == 0.5


def test_concordance_is_undefined_where_nothing_happened() -> None:
    assert math.isnan(stats.concordance_index(np.arange(3.0), np.arange(3.0), np.zeros(3, bool)))


@pytest.mark.parametrize("seed", range(5))
def test_hausdorff_95_is_that_of_monai(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (np.zeros((16, 14, 8), bool) for _ in range(2))
    for mask in (first, second):
        i, j, k = rng.integers(1, 5, 3)
        mask[i : i + 6, j : j + 5, k : k + 3] = True
    second[12, 12, 6] = True  # a speck far away

    expected = compute_hausdorff_distance(
        torch.from_numpy(first)[None, None], torch.from_numpy(second)[None, None],
        include_background=True, percentile=95, spacing=[1.0, 2.0, 5.0],
    )  # fmt: skip
    assert stats.hausdorff_95(first, second, (1.0, 2.0, 5.0)) == pytest.approx(float(expected), rel=1e-5)


def test_there_is_no_distance_to_nothing_and_none_between_two_nothings() -> None:
    nothing, something = np.zeros((4, 4), bool), np.eye(4, dtype=bool)

    assert math.isnan(stats.hausdorff_95(something, nothing, (1.0, 1.0)))
    assert stats.hausdorff_95(nothing, nothing, (1.0, 1.0)) == 0


def delong_by_definition(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Difference of areas and its standard error from the kernel over all pairs, as the 1988 paper defines them."""

    def kernel(score: np.ndarray) -> np.ndarray:
        x, y = score[positive][:, None], score[~positive][None]
        return (x > y) + 0.5 * (x == y)

    pairs = kernel(first) - kernel(second)
    by_positive, by_negative = pairs.mean(axis=1), pairs.mean(axis=0)
    variance = by_positive.var(ddof=1) / len(by_positive) + by_negative.var(ddof=1) / len(by_negative)
    return float(pairs.mean()), float(np.sqrt(variance))


@few
@seeds
def test_delong_is_what_its_paper_defines_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = np.arange(40) % 3 == 0
    first, second = np.round(rng.normal(size=(2, 40)) + positive, 1)

    test = stats.delong_test(positive, first, second)

    gap, error = delong_by_definition(positive, first, second)
    assert (test.first - test.second, test.standard_error) == pytest.approx((gap, error))
    assert test.first == pytest.approx(sklearn_metrics.roc_auc_score(positive, first))
    assert test.p_value == pytest.approx(math.erfc(abs(gap / error) / math.sqrt(2)))


def test_delong_needs_two_cases_of_each_class() -> None:
    with pytest.raises(ValueError, match="two cases of each class"):
        stats.delong_test(np.array([True, False, False]), np.arange(3.0), np.arange(3.0))


def test_a_score_compared_with_itself_is_no_better() -> None:
    score = np.arange(6.0)

    assert stats.delong_test(score > 2, score, score).p_value == 1


def test_mcnemar_of_the_approval_ratings_of_agresti() -> None:
    # Agresti, Categorical Data Analysis, table 10.1: 794, 150, 86, 570; 150 against 86 changed their mind.
    first = np.repeat([True, True, False, False], [794, 150, 86, 570])
    second = np.repeat([True, False, True, False], [794, 150, 86, 570])

    test = stats.mcnemar_test(first, second)

    by_hand = 2 * sum(math.comb(236, k) for k in range(87)) / 2**236
    assert (test.only_first, test.only_second) == (150, 86)
    assert test.p_value == pytest.approx(by_hand)
    assert test.p_value == pytest.approx(math.erfc(math.sqrt(17.36 / 2)), rel=0.5)  # the book's chi-square, 17.36


def test_curves_pass_the_points_of_scikit_learn() -> None:
    truth, chances = classes(1, n_classes=2)
    positive, score = truth == 1, chances[:, 1]

    roc, pr = stats.roc_curve(positive, score), stats.precision_recall_curve(positive, score)

    false, true, _ = sklearn_metrics.roc_curve(truth, score, drop_intermediate=False)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(truth, score)
    np.testing.assert_allclose([roc.x, roc.y], [false, true])
    np.testing.assert_allclose([pr.x, pr.y], [recall[:-1][::-1], precision[:-1][::-1]])


def test_reliability_bins_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(100)
    positive = rng.random(100) < probability

    bins = stats.reliability(positive, probability)

    observed, stated = calibration_curve(positive, probability, n_bins=5, strategy="quantile")
    np.testing.assert_allclose([bins.stated, bins.observed], [stated, observed])


def test_net_benefit_of_the_counts_of_vickers_and_elkin() -> None:
    # Acting on everyone at threshold t gains prevalence - (1 - prevalence) t / (1 - t), as the paper states.
    positive, thresholds = np.repeat([True, False], [30, 70]), np.array([0.1, 0.5])

    everyone = stats.net_benefit(positive, np.ones(100), thresholds)

    np.testing.assert_allclose(everyone, [0.3 - 0.7 / 9, 0.3 - 0.7])
    assert stats.net_benefit(positive, positive.astype(float), thresholds).tolist() == [0.3, 0.3]


# The peak flow readings (l/min) of 17 people on two meters that Bland and Altman printed (Lancet 1986; 327: 307-310).
LARGE_METER = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_METER = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_bland_altman_gives_what_its_paper_printed() -> None:
    agreement = stats.bland_altman(np.array(LARGE_METER, float), np.array(MINI_METER, float))

    assert agreement.bias == pytest.approx(-2.1, abs=0.05)
    assert (agreement.high - agreement.bias) / 1.96 == pytest.approx(38.8, abs=0.05)


@few
@seeds
def test_ranks_give_recall_as_top_k_does(seed: int) -> None:
    truth, chances = classes(seed, n_classes=4)

    ranks = stats.ranks_of(truth, chances)

    assert stats.recall_at(ranks, 2) == pytest.approx(stats.top_k_accuracy(truth, chances, k=2))


def test_reciprocal_rank_of_the_usual_example() -> None:
    # Answers third, second, first: (1/3 + 1/2 + 1) / 3 = 11/18, as in Voorhees' definition; a fourth is never found.
    assert stats.mean_reciprocal_rank(np.array([3.0, 2.0, 1.0])) == pytest.approx(11 / 18)
    assert stats.mean_reciprocal_rank(np.array([1.0, np.inf])) == 0.5


def test_sets_are_counted() -> None:
    inside = np.array([[True, False], [True, True], [False, True]])

    assert stats.set_coverage(np.array([0, 0, 0]), inside) == pytest.approx(2 / 3)
    assert stats.set_size(np.array([0, 0, 0]), inside) == pytest.approx(4 / 3)


def test_confusion_is_that_of_scikit_learn() -> None:
    truth, chances = classes(3)

    table = stats.confusion_table(truth, chances.argmax(axis=1), 3)

    np.testing.assert_array_equal(table, sklearn_metrics.confusion_matrix(truth, chances.argmax(axis=1)))


def test_cases_of_one_patient_are_drawn_together() -> None:
    values, patients = np.repeat([0.0, 1.0], 50), np.repeat(["a", "b"], 50)

    together = stats.bootstrap(lambda column: float(column.mean()), values, patients=patients, n_resamples=200)

    assert (together.low, together.high, together.n) == (0, 1, 2)


def test_the_bootstrap_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)

    estimate = stats.bootstrap(lambda column: float(column.mean()), values)

    half = 1.96 * values.std(ddof=1) / 20
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


def test_a_paired_p_value_is_small_for_a_better_model_and_large_for_an_equal_one() -> None:
    truth, chances = classes(0, n=150)
    perfect = np.eye(3)[truth]

    assert stats.paired_difference(stats.accuracy, truth, perfect, chances).p_value < 0.01
    assert stats.paired_difference(stats.accuracy, truth, chances, chances).p_value == 1


def frame() -> pd.DataFrame:
    truth, chances = classes(0)
    names = np.array(["red", "green", "blue"])
    return pd.DataFrame(chances, columns=names).assign(
        truth=names[truth], patient=np.arange(70) // 2, site=np.where(np.arange(70) < 40, "A", "B")
    )


def test_a_data_frame_gives_what_arrays_give() -> None:
    truth, chances = classes(0)

    table = stats.measure_frame(frame(), ["red", "green", "blue"], n_resamples=20)

    assert table.loc["macro_f1", "value"] == pytest.approx(stats.macro_f1(truth, chances))
    assert set(table.index) == set(stats.METRICS)
    assert table.loc["auroc", "n"] == 70


def test_subgroups_are_measured_apart_by_patient() -> None:
    table = stats.measure_subgroups(frame(), ["red", "green", "blue"], "site", patient="patient", n_resamples=20)

    assert table.loc[("A", "accuracy"), "n"] == 20
    assert table.loc[("B", "accuracy"), "n"] == 15


@pytest.mark.parametrize("gone", ["blue", "truth"])
def test_a_column_that_is_missing_is_named(gone: str) -> None:
    with pytest.raises(ValueError, match=f"Expected the columns {gone}"):
        stats.measure_frame(frame().drop(columns=gone), ["red", "green", "blue"])


def test_a_truth_that_is_no_class_is_named() -> None:
    with pytest.raises(ValueError, match="'blue'"):
        stats.measure_frame(frame(), ["red", "green"])


def test_ages_fall_into_bands() -> None:
    ages = np.array([3, 18, 39.9, 60, 80, np.nan])

    assert stats.age_bands(ages).tolist() == ["0-17", "18-39", "18-39", "60-74", "75+", ""]


def test_the_p_value_of_equal_models_is_rarely_small() -> None:
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(60):
        truth = rng.integers(0, 2, 60)
        first, second = (np.stack([1 - p, p], axis=1) for p in rng.random((2, 60)))
        small += stats.paired_difference(stats.auroc, truth, first, second, n_resamples=150).p_value < 0.05

    assert small <= 8  # 3 expected; more than 8 has a chance below 1 in 200


def test_all_pairs_give_the_area_under_the_curve() -> None:
    positive, score = np.array([True, False, True, False]), np.array([0.9, 0.9, 0.4, 0.1])

    pairs = [(score[i] > score[j]) + 0.5 * (score[i] == score[j])
             for i, j in itertools.product(np.flatnonzero(positive), np.flatnonzero(~positive))]  # fmt: skip
    assert stats.binary_auroc(positive, score) == np.mean(pairs)
