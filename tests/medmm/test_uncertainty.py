"""Temperature, prediction sets, distance from the training cases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmm.heads import probabilities
from medmm.uncertainty import (
    EnergyScore,
    OutOfDistributionScore,
    SetRule,
    conformal_quantile,
    decide,
    decide_labels,
    fit_temperature,
    label_thresholds,
    min_confidence,
)

NAMES, TITLES = ["a", "b", "c"], ["Alpha", "Beta", "Gamma"]


def cases(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, 3) and classes drawn from them."""
    chances = rng.dirichlet([0.7, 0.7, 0.7], n)
    return chances, np.array([rng.choice(3, p=row) for row in chances])


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_prediction_sets_cover_the_truth_as_often_as_stated_on_exchangeable_cases(coverage: float) -> None:
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(60):
        quantile = conformal_quantile(*cases(rng, 40), coverage)
        for chances, truth in zip(*cases(rng, 25), strict=True):
            hits.append(NAMES[truth] in decide(NAMES, TITLES, chances, quantile, coverage).prediction_set)

    # By theory between coverage and coverage + 1/41; the mean of 60 draws of 25 cases errs by about 0.01.
    assert coverage - 0.03 <= np.mean(hits) <= coverage + 1 / 41 + 0.03


def test_too_few_cases_for_the_coverage_give_every_class() -> None:
    chances, truth = cases(np.random.default_rng(0), 8)

    quantile = conformal_quantile(chances, truth, 0.9)

    assert quantile == 1.0
    assert decide(NAMES, TITLES, np.array([1.0, 0.0, 0.0]), quantile, 0.9).prediction_set == ("a", "b", "c")


def test_no_case_at_all_gives_every_class() -> None:
    assert conformal_quantile(np.zeros((0, 3)), np.zeros(0, int), 0.9) == 1.0


@settings(max_examples=100, deadline=None)
@given(chance=st.floats(0.001, 0.999), kind=st.sampled_from([np.float32, np.float64]))
def test_a_case_as_likely_as_the_quantile_is_in_its_set_for_all_probabilities(chance: float, kind: type) -> None:
    row = np.array([chance, 1 - chance], kind)
    quantile = conformal_quantile(np.stack([row] * 20), np.zeros(20, int), 0.9)

    decision = decide(["a", "b"], ["A", "B"], row.astype(np.float64), quantile, 0.9)

    assert "a" in decision.prediction_set


def test_one_class_in_the_set_is_an_answer() -> None:
    decision = decide(NAMES, TITLES, np.array([0.8, 0.15, 0.05]), 0.5, 0.9)

    assert decision.prediction_set == ("a",)
    assert not decision.abstained


def test_several_classes_in_the_set_abstain_and_name_them() -> None:
    decision = decide(NAMES, TITLES, np.array([0.4, 0.35, 0.25]), 0.8, 0.9)

    assert decision.abstained
    assert decision.prediction_set == ("a", "b", "c")
    assert decision.reason == "At 90% coverage Alpha, Beta and Gamma cannot be told apart."


def test_the_most_probable_class_is_in_the_set_even_if_it_is_unlikely() -> None:
    decision = decide(NAMES, TITLES, np.array([0.4, 0.35, 0.25]), 0.3, 0.9)

    assert decision.prediction_set == ("a",)


@settings(max_examples=60, deadline=None)
@given(logits=st.lists(st.floats(-8, 8), min_size=2, max_size=5), temperature=st.floats(0.14, 20))
def test_temperature_keeps_the_ranking_for_all_logits(logits: list[float], temperature: float) -> None:
    row = torch.tensor([logits])

    cooled = probabilities(row, "exclusive", temperature)

    in_order = cooled[0, row[0].argsort()]  # far below the largest, single precision rounds to equal zeros
    assert (in_order.diff() >= 0).all()


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_fitting_the_temperature_undoes_over_and_underconfidence(factor: float) -> None:
    rng = np.random.default_rng(0)
    chances, truth = cases(rng, 2000)

    temperature = fit_temperature(factor * np.log(chances + 1e-12), truth)

    assert temperature == pytest.approx(factor, rel=0.15)


def test_without_held_out_cases_the_temperature_stays_one() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0


def fitted(n: int, width: int = 12) -> tuple[OutOfDistributionScore, torch.Tensor]:
    vectors = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    score = OutOfDistributionScore(width)
    score.fit(vectors)
    return score, vectors


def test_a_far_case_is_beyond_the_threshold_and_training_cases_are_not() -> None:
    score, vectors = fitted(60)

    assert float(score(vectors[:1] + 20)) > float(score.threshold)
    assert (score(vectors) <= score.threshold).all()


@pytest.mark.parametrize("n", [3, 5, 9, 40])
def test_cases_like_the_training_cases_are_rarely_flagged_however_few_trained(n: int) -> None:
    score, _ = fitted(n)

    alike = torch.randn(400, 12, generator=torch.Generator().manual_seed(1))

    assert float((score(alike) > score.threshold).float().mean()) < 0.3


def test_without_training_cases_nothing_is_flagged() -> None:
    assert bool(torch.isinf(OutOfDistributionScore(4).threshold))


RULES = [SetRule("lac"), SetRule("aps"), SetRule("raps", penalty=0.2, n_free=1)]


@pytest.mark.parametrize("rule", RULES, ids=[rule.kind for rule in RULES])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_every_rule_covers_the_truth_at_least_as_often_as_stated(rule: SetRule, coverage: float) -> None:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(60):
        quantile = conformal_quantile(*cases(rng, 60), coverage, rule)
        for chances, truth in zip(*cases(rng, 25), strict=True):
            hits.append(NAMES[truth] in decide(NAMES, TITLES, chances, quantile, coverage, rule=rule).prediction_set)

    # The score of a whole class (nothing is drawn at random) still is exchangeable, so the same bounds hold.
    assert coverage - 0.03 <= np.mean(hits) <= coverage + 1 / 61 + 0.03


@pytest.mark.parametrize("rule", RULES, ids=[rule.kind for rule in RULES])
def test_too_few_cases_give_every_class_by_every_rule(rule: SetRule) -> None:
    chances, truth = cases(np.random.default_rng(0), 8)

    quantile = conformal_quantile(chances, truth, 0.9, rule)

    assert decide(NAMES, TITLES, np.array([0.98, 0.02, 0.0]), quantile, 0.9, rule=rule).prediction_set == (
        "a",
        "b",
        "c",
    )


def test_adaptive_sets_are_larger_for_harder_cases() -> None:
    rule = SetRule("aps")

    easy, hard = (
        decide(NAMES, TITLES, np.array(row), 0.9, 0.9, rule=rule) for row in ([0.95, 0.03, 0.02], [0.4, 0.35, 0.25])
    )

    assert (len(easy.prediction_set), len(hard.prediction_set)) == (1, 2)


@settings(max_examples=60, deadline=None)
@given(row=st.lists(st.floats(0.01, 1), min_size=3, max_size=6))
def test_a_more_probable_class_never_conforms_less_for_all_probabilities(row: list[float]) -> None:
    chances = np.array([row]) / sum(row)

    for rule in RULES:
        in_order = rule.scores(chances)[0][np.argsort(-chances[0], kind="stable")]
        assert (np.diff(in_order) >= -1e-12).all()


def test_a_larger_set_may_be_allowed_as_an_answer() -> None:
    decision = decide(NAMES, TITLES, np.array([0.5, 0.45, 0.05]), 0.6, 0.9, max_set_size=2)

    assert decision.prediction_set == ("a", "b")
    assert not decision.abstained


def test_findings_are_said_from_their_own_thresholds() -> None:
    values = np.array([0.4, 0.4, 0.9])

    assert decide_labels(NAMES, values, (0.3, 0.6, 0.95)).prediction_set == ("a",)
    assert decide_labels(NAMES, values, ()).prediction_set == ("c",)


def test_thresholds_find_new_positive_cases_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        chances = rng.uniform(size=(n, 2))
        return chances, (rng.uniform(size=(n, 2)) < chances).astype(int)

    hits = []
    for _ in range(40):
        thresholds = np.array(label_thresholds(*draw(80), 0.8))
        chances, truth = draw(40)
        hits.extend((chances >= thresholds)[truth == 1])

    assert 0.77 <= np.mean(hits) <= 0.85


def test_a_finding_seen_too_rarely_is_always_said() -> None:
    assert label_thresholds(np.array([[0.2], [0.9]]), np.array([[0], [1]]), 0.9) == (0.0,)


def test_confidence_is_asked_for_until_the_answers_are_right_often_enough() -> None:
    chances = np.array([[0.95, 0.05], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    target = np.array([0, 0, 0, 1, 1])

    assert min_confidence(chances, target, 0.75) == 0.7
    assert min_confidence(chances, target, 0.9) == 0.8
    assert min_confidence(chances[3:], target[3:], 0.9) == 1.0


def test_energy_is_high_where_no_answer_speaks_up() -> None:
    score = EnergyScore()
    rng = torch.Generator().manual_seed(0)
    sure = 5 * torch.nn.functional.one_hot(torch.randint(3, (200,), generator=rng), 3) + torch.randn(
        200, 3, generator=rng
    )
    score.fit([sure])

    flagged = score([torch.zeros(1, 3)]) > score.threshold

    assert bool(flagged)
    assert float((score([sure]) > score.threshold).float().mean()) == pytest.approx(0.025, abs=0.006)


def test_temperature_of_findings_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = 1.5 * rng.standard_normal((600, 2))
    truth = (rng.uniform(size=(600, 2)) < 1 / (1 + np.exp(-honest))).astype(int)
    truth[:5] = -1

    assert fit_temperature(3 * honest, truth) == pytest.approx(3, rel=0.2)


def test_a_long_set_is_counted_and_its_first_answers_named() -> None:
    names = [f"n{number}" for number in range(40)]
    values = np.full(40, 0.02)
    values[[7, 3, 12]] = 0.1, 0.09, 0.07

    decision = decide(names, [name.upper() for name in names], values, 1.0, 0.8)

    assert len(decision.prediction_set) == 40
    assert decision.reason == "At 80% coverage 40 answers (first N7, N3, N12) cannot be told apart."
