"""Controls tell what is real: a graph that matters, a hospital that gives the answer away, a group that differs."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny

from pipelines.evaluation.acquisition import acquisition_answers
from pipelines.evaluation.answers import Answers, CaseAnswer
from pipelines.evaluation.controls import acquisition_row, graph_rows, subgroups
from pipelines.evaluation.page import failures_of, verdict
from pipelines.evaluation.variants import GRAPH_NONE, GRAPH_SHUFFLED, answer_variants, plan_controls
from pipelines.manifest import ManifestRow
from pipelines.statistics import auroc


def answers_of(truth: np.ndarray, chances: np.ndarray, sites: list[str]) -> Answers:
    """Answers to `side` whose only trait is the site."""
    names = [label.name for label in tiny.SIDE.classes]
    cases = [
        CaseAnswer(
            row=ManifestRow(case=f"c{n}", patient=f"p{n}", record={"site": site}, labels={"side": names[label]}),
            probabilities={"side": chance},
            sets={"side": (names[int(chance.argmax())],)},
            abstained={"side": False},
            variants={GRAPH_NONE: {"side": chance[::-1]}},
        )
        for n, (label, chance, site) in enumerate(zip(truth, chances, sites, strict=True))
    ]
    return Answers(tasks=(tiny.SIDE,), cases=tuple(cases), refused={})


@pytest.fixture
def answers() -> Answers:
    """Forty cases; the model is right at site A and guesses at site B, where nearly all are left."""
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.arange(20) % 2, (np.arange(20) > 16).astype(int)])
    right = np.clip(np.concatenate([truth[:20] * 0.8 + 0.1, rng.random(20)]), 0.05, 0.95)
    return answers_of(truth, np.stack([1 - right, right], axis=1), ["A"] * 20 + ["B"] * 20)


def test_a_graph_that_the_report_speaks_to_changes_answers_when_taken_away_or_shuffled(tmp_path: Path) -> None:
    graph = tiny.build_graph()
    text = str(tiny.write_tiny_bert(tmp_path / "bert"))
    from medmm.encoders.text import TextEncoder

    model = tiny.build_model(tiny.build_config(graph=graph, text=text))
    diagnoser = tiny.build_diagnoser(model, text_encoder=TextEncoder(text, 64), graph=graph)
    case = tiny.build_case()

    variants = answer_variants(diagnoser, case, plan_controls(diagnoser))

    full = variants["volume+text+record+graph"]["kind"]
    assert len(variants) == 15 + 2
    assert not np.allclose(full, variants[GRAPH_NONE]["kind"])
    np.testing.assert_allclose(variants[GRAPH_NONE]["kind"], variants["volume+text+record"]["kind"], rtol=1e-5)
    assert variants[GRAPH_SHUFFLED].keys() == {"kind", "grade"}


def test_what_an_absent_modality_would_say_is_not_asked() -> None:
    diagnoser = tiny.build_diagnoser(tiny.build_model(tiny.build_config()))
    case = tiny.build_case(text=None)
    without = case.__class__(case_id="x", volumes=case.volumes)

    assert set(answer_variants(diagnoser, without, plan_controls(diagnoser))) == {"volume", "volume+record"}


def test_a_hospital_that_gives_the_answer_away_is_found(answers: Answers) -> None:
    truth = np.arange(40) % 2
    facts = [{"site": "AB"[label]} for label in truth]

    chances = acquisition_answers(facts, truth, np.arange(40), 2)

    assert auroc(truth, chances) == 1


def test_a_hospital_that_says_nothing_predicts_nothing() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    facts = [{"site": "ABCD"[rng.integers(4)], "flair.spacing_k_mm": float(rng.integers(3, 6))} for _ in truth]

    assert 0.35 < auroc(truth, acquisition_answers(facts, truth, np.arange(200), 2)) < 0.65


def test_patients_are_never_on_both_sides_of_the_acquisition_control() -> None:
    # Each patient has a slice thickness of its own and two cases: only memory of the patient could answer.
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(60), 2)
    truth = np.repeat(rng.integers(0, 2, 60), 2)
    facts = [{"scanner": f"serial {patient}"} for patient in patients]

    assert auroc(truth, acquisition_answers(facts, truth, patients, 2)) == pytest.approx(0.5, abs=0.12)


def test_one_patient_of_a_class_is_too_few_to_learn_the_acquisition_from(answers: Answers) -> None:
    chances = acquisition_answers([{"site": "A"}] * 4, np.array([0, 0, 0, 1]), np.arange(4), 2)

    assert np.isnan(chances).all()


def test_sites_are_shown_inside_and_left_out(answers: Answers) -> None:
    rows = {row.value: row for row in subgroups(answers, answers.of_task("side"), (), 100)}

    assert rows["A"].inside.value == 1
    assert rows["A"].outside == rows["B"].inside
    assert rows["B"].inside.value < 1


def test_the_acquisition_is_held_against_the_model(answers: Answers) -> None:
    row = acquisition_row(answers, answers.of_task("side"), 100)

    assert row is not None
    assert row.gain is not None
    assert row.gain.value == pytest.approx(auroc(*_arrays(answers)) - row.score.value)


def test_an_acquisition_that_teaches_less_than_nothing_counts_as_guessing() -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(30) % 2
    right = rng.random(30)
    noise = answers_of(truth, np.stack([1 - right, right], axis=1), [f"site {n % 3}" for n in range(30)])

    row = acquisition_row(noise, noise.of_task("side"), 100)

    assert row is not None
    assert row.score.value >= 0.5


def test_the_graph_table_starts_with_the_real_graph(answers: Answers) -> None:
    rows = graph_rows(answers, answers.of_task("side"), 100)

    assert [row.name for row in rows] == ["graph: real", GRAPH_NONE]
    assert rows[0].score.value == pytest.approx(1 - rows[1].score.value)
    assert verdict(rows[1].gain) == "better"  # type: ignore[arg-type]  # it has one


def test_failures_are_wrong_and_the_surest_come_first(answers: Answers) -> None:
    failures = failures_of(answers, answers.of_task("side"))

    assert all(item.truth != item.answer for item in failures)
    assert [item.probability for item in failures] == sorted((item.probability for item in failures), reverse=True)


def _arrays(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    task = answers.of_task("side")
    return task.truth, task.probabilities
