"""Numbers and times as answers: what the curve or the bins say, with an interval, from the model to the report."""

import json

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medmm.config import Calibration, ClassSpec, Labels, TaskSpec
from medmm.errors import UsageError
from medmm.estimates import estimate_time, estimate_value, quantile_time
from medmm.heads import build_head
from medmm.report.table import result_row
from medmm.report.texts import LANGUAGES
from medmm.results import Explanation
from medmm.survival import ProportionalHazardHead
from pipelines.labels import parse_label

EDGES = (12.0, 24.0, 60.0)


def classes(*names: str) -> tuple[ClassSpec, ...]:
    return tuple(ClassSpec(name=name, title=name) for name in names)


DEATH = TaskSpec(
    name="death", title="Survival", kind="survival", classes=classes("0-12", "12-24", "24-60", "60-"), edges=EDGES,
    unit="months", hazards="proportional",
)  # fmt: skip
AGE = TaskSpec(
    name="brain_age", title="Brain age", kind="regression", classes=classes("20-40", "40-60", "60-80"),
    edges=(20.0, 40.0, 60.0, 80.0), unit="years", calibration=Calibration(coverage=0.8, quantile=0.7),
)  # fmt: skip


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    model = tiny.build_model(tiny.build_config(has_volume=False), Labels(tasks=(DEATH, AGE)))
    diagnoser = tiny.build_diagnoser(model)
    case = tiny.build_case(text=None)
    return diagnoser.explain(case, diagnoser.diagnose(case))


def test_the_median_lies_where_half_of_the_curve_is_reached() -> None:
    chances = np.array([0.25, 0.5, 0.125, 0.125])

    found = estimate_time(chances, EDGES, "months")

    assert found.value == pytest.approx(18.0)  # half of the second interval
    assert found.low == pytest.approx(12 * 0.1 / 0.25)
    assert found.high is None  # nine tenths are beyond the last edge
    assert found.limit == 60


@given(
    st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4).map(lambda weights: np.array(weights) / sum(weights)),
    st.floats(0.01, 0.99),
)
def test_quantiles_are_inverse_to_the_curve_for_all_curves(chances: np.ndarray, share: float) -> None:
    time = quantile_time(chances, EDGES, share)

    reached = np.concatenate([[0.0], np.cumsum(chances[:-1])])
    if time is None:
        assert share > reached[-1]
    else:
        assert np.interp(time, [0.0, *EDGES], reached) == pytest.approx(share, abs=1e-9)


def test_a_value_is_expected_over_bins_and_its_interval_holds_the_prediction_set() -> None:
    found = estimate_value(np.array([0.1, 0.6, 0.3]), AGE.edges, "years", [1, 2], 0.8)

    assert found.value == pytest.approx(0.1 * 30 + 0.6 * 50 + 0.3 * 70)
    assert (found.low, found.high, found.coverage) == (40.0, 80.0, 0.8)


def test_an_empty_prediction_set_leaves_the_most_probable_bin() -> None:
    found = estimate_value(np.array([0.1, 0.6, 0.3]), AGE.edges, "years", [], 0.8)

    assert (found.low, found.high) == (40.0, 60.0)


def test_proportional_hazards_differ_between_cases_by_one_factor() -> None:
    torch.manual_seed(0)
    head = ProportionalHazardHead(3, 5)

    chances = head(torch.randn(2, 3)).exp()

    torch.testing.assert_close(chances.sum(dim=1), torch.ones(2))
    hazards = -(1 - chances.cumsum(dim=1)[:, :-1]).log()  # cumulative
    ratio = hazards[0] / hazards[1]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-4)


def test_very_high_risk_stays_finite_and_learns() -> None:
    head = build_head("survival", 1, 3, is_proportional=True)
    embedding = torch.tensor([[1e4], [-1e4]])

    logits = head(embedding)
    logits.sum().backward()

    assert logits.isfinite().all()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in head.parameters())


def test_a_diagnosis_answers_with_numbers_and_keeps_no_silence_over_a_wide_interval(explanation: Explanation) -> None:
    death, age = (explanation.diagnosis.tasks[name] for name in ("death", "brain_age"))

    assert death.estimate == estimate_time(death.probabilities, EDGES, "months")
    assert age.estimate is not None
    assert age.estimate.low <= age.estimate.value <= age.estimate.high  # type: ignore[operator]  # values of bins
    assert not age.abstained


def test_the_report_states_number_interval_and_unit_in_every_language(explanation: Explanation) -> None:
    report = explanation.report()

    for lang in LANGUAGES:
        tasks = json.loads(report.to_json(lang=lang))["tasks"]
        assert tasks["death"]["estimate"]["unit"] == "months"
        assert tasks["brain_age"]["estimate"]["coverage"] == 0.8
        value = explanation.diagnosis.tasks["brain_age"].estimate.value  # type: ignore[union-attr]  # it has one
        assert f"{value:.3g} years" in report.draft_text(lang=lang)


def test_a_row_of_results_has_the_number_and_leaves_open_ends_empty(explanation: Explanation) -> None:
    row = result_row(explanation.diagnosis)

    found = explanation.diagnosis.tasks["death"].estimate
    assert found is not None
    assert row["death.high"] == "" if found.high is None else row["death.high"] == pytest.approx(found.high, rel=1e-3)
    assert row["brain_age.low"] == explanation.diagnosis.tasks["brain_age"].estimate.low  # type: ignore[union-attr]  # it has one


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        (AGE, "20", 0), (AGE, "39.9", 0), (AGE, "40", 1), (AGE, "80", 2), (DEATH, "11.9", [0, 1]),
        (DEATH, "12", [1, 1]), (DEATH, "70+", [3, 0]), (DEATH, "12-24+", [1, 0]),
    ],
)  # fmt: skip
def test_numbers_and_times_of_a_manifest_fall_into_their_interval(
    task: TaskSpec, text: str, label: int | list[int]
) -> None:
    assert parse_label(task, text).tolist() == label


@pytest.mark.parametrize(("task", "text"), [(AGE, "19.9"), (AGE, "old"), (AGE, "nan"), (DEATH, "-1"), (DEATH, "soon")])
def test_what_is_no_such_number_is_refused(task: TaskSpec, text: str) -> None:
    with pytest.raises(UsageError, match="no number from"):
        parse_label(task, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": (20.0, 40.0, 60.0)}, "Expected 4 edges"),
        ({"edges": ()}, "Expected edges of a regression"),
        ({"edges": (20.0, 60.0, 40.0, 80.0)}, "edges that grow"),
        ({"kind": "ordinal"}, "Expected 0 edges"),
    ],
)
def test_edges_must_fit_the_classes(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskSpec.model_validate(AGE.model_dump() | change)
