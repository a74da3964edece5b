"""Tasks where several answers hold, or where any concept of the graph may be one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kg import KnowledgeGraph
from kg.building import build_from_tables
from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Source, SourceTables
from medmm.calibration import fit_calibration
from medmm.checkpoint import load_checkpoint, save_model
from medmm.config import Calibration, ClassSpec, Labels, TaskSpec
from medmm.diagnose import Diagnoser
from medmm.errors import UsageError
from medmm.hierarchy import constrain, descendants
from medmm.inputs import CaseReader
from medmm.objectives.balance import TaskBalance
from medmm.ranking import rank_concepts
from medmm.types import Case, Record, Report
from pipelines.training.what import WhatSettings, calibrate, predict_logits, train_what

FINDINGS = TaskSpec(
    name="findings",
    title="Findings",
    kind="multilabel",
    classes=(
        ClassSpec(name="lesion", title="Lesion", concept="X:lesion"),
        ClassSpec(name="tumour", title="Tumour", concept="X:tumour"),
        ClassSpec(name="bleeding", title="Bleeding", concept="X:bleeding"),
    ),
    calibration=Calibration(coverage=0.8),
)


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    """A tumour is a mass, which is a lesion; bleeding is neither."""
    kinds = {"lesion": "Lesion", "mass": "Mass", "tumour": "Tumour", "bleeding": "Bleeding"}
    return build_from_tables(
        [
            SourceTables(
                source=Source(name="x", version="1", licence="CC0"),
                concepts=[ConceptRecord(f"X:{key}", "finding", name) for key, name in kinds.items()],
                relations=[
                    RelationRecord("X:tumour", SUBCLASS_OF, "X:mass"),
                    RelationRecord("X:mass", SUBCLASS_OF, "X:lesion"),
                ],
            )
        ]
    )


def test_descendants_follow_is_a_over_concepts_that_are_no_class(graph: KnowledgeGraph) -> None:
    table = descendants(graph, ["X:lesion", "X:tumour", "X:bleeding", ""])

    assert table.tolist() == [
        [True, True, False, False],
        [False, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


@settings(max_examples=40, deadline=None)
@given(logits=st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_a_parent_is_never_less_probable_than_its_child_for_all_logits(logits: list[float]) -> None:
    below = torch.tensor([[True, True, True], [False, True, True], [False, False, True]])

    held = constrain(torch.tensor([logits]), below)[0]

    assert held[0] >= held[1] >= held[2]
    assert held[2] == torch.tensor(logits)[2]


def findings_model(graph: KnowledgeGraph) -> tuple[CaseReader, np.ndarray, list[Case]]:
    """A model of a record and a graph that learned: above 50 years a tumour, women bleed."""
    model = tiny.build_model(tiny.build_config(graph=graph, has_volume=False), Labels(tasks=(FINDINGS,)))
    reader = CaseReader(model, None, graph)
    rng = np.random.default_rng(0)
    ages, sexes = rng.uniform(20, 80, 80), rng.integers(2, size=80)
    cases = [
        Case(case_id=str(row), record=Record(values={"age_years": float(age), "sex": "FM"[sex]}))
        for row, (age, sex) in enumerate(zip(ages, sexes, strict=True))
    ]
    truth = np.stack([ages > 50, ages > 50, sexes == 0], axis=1).astype(int)
    truth[3, 2] = -1
    return reader, truth, cases


@pytest.fixture(scope="module")
def trained(graph: KnowledgeGraph) -> tuple[Diagnoser, np.ndarray, list[Case]]:
    reader, truth, cases = findings_model(graph)
    features = [reader.read(case).features for case in cases]
    settings = WhatSettings(epochs=40, batch_size=20, learning_rate=1e-2, modality_dropout=0.1, blank=0.05)
    train_what(reader, features[:50], {"findings": truth[:50]}, settings)
    logits = predict_logits(reader, features[50:])
    reader.model.labels = calibrate(reader.model.labels, logits, {"findings": truth[50:]})
    return tiny.build_diagnoser(reader.model, graph=graph), truth, cases


def test_several_findings_are_said_together_and_parents_with_their_children(
    trained: tuple[Diagnoser, np.ndarray, list[Case]],
) -> None:
    diagnoser, _, _ = trained
    old_woman = Case(case_id="a", record=Record(values={"age_years": 78.0, "sex": "F"}))
    young_man = Case(case_id="b", record=Record(values={"age_years": 22.0, "sex": "M"}))

    both, none = (diagnoser.diagnose(case).tasks["findings"] for case in (old_woman, young_man))

    assert both.prediction_set == ("lesion", "tumour", "bleeding")
    assert none.prediction_set == ()
    assert not both.abstained
    assert both.probabilities[0] >= both.probabilities[1]


def test_thresholds_keep_the_stated_share_of_true_findings(trained: tuple[Diagnoser, np.ndarray, list[Case]]) -> None:
    diagnoser, truth, cases = trained

    said = [diagnoser.diagnose(case).tasks["findings"].prediction_set for case in cases[50:]]

    thresholds = diagnoser.model.labels.tasks[0].calibration.thresholds
    assert len(thresholds) == 3
    for column, name in enumerate(("lesion", "tumour", "bleeding")):
        has = np.flatnonzero(truth[50:, column] == 1)
        assert np.mean([name in said[row] for row in has]) >= 0.8


def test_findings_are_the_same_after_saving_and_are_reported(
    trained: tuple[Diagnoser, np.ndarray, list[Case]], graph: KnowledgeGraph, tmp_path: Path
) -> None:
    diagnoser, _, cases = trained
    save_model(tmp_path / "model", diagnoser.model, metrics={}, card=tiny.CARD)
    loaded = tiny.build_diagnoser(load_checkpoint(tmp_path / "model").model, graph=graph)

    before, after = (one.diagnose(cases[0]).tasks["findings"] for one in (diagnoser, loaded))
    loaded.explain(cases[0], loaded.diagnose(cases[0]), "full").report().save(tmp_path / "out")

    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    assert after.prediction_set == before.prediction_set
    assert loaded.model.decisions["findings"].is_below.tolist() == [
        [True, True, False],
        [False, True, False],
        [False, False, True],
    ]
    assert any((tmp_path / "out").rglob("report.html"))


def test_a_task_of_findings_may_have_one_class_and_others_may_not() -> None:
    one = (ClassSpec(name="a", title="A"),)

    assert TaskSpec(name="t", title="T", kind="multilabel", classes=one).kind == "multilabel"
    with pytest.raises(ValidationError, match="at least two classes"):
        TaskSpec(name="t", title="T", kind="exclusive", classes=one)


@pytest.mark.slow
def test_survival_is_answered_by_a_curve_over_intervals() -> None:
    task = TaskSpec(
        name="death",
        title="Death",
        kind="survival",
        classes=tuple(ClassSpec(name=name, title=name) for name in ("0-1 y", "1-5 y", "later")),
    )
    model = tiny.build_model(tiny.build_config(has_volume=False), Labels(tasks=(task,)))
    reader = CaseReader(model, None, None)
    cases = [Case(case_id=str(age), record=Record(values={"age_years": float(age)})) for age in range(20, 80)]
    target = np.array([[0 if age > 50 else 2, int(age % 7 > 0)] for age in range(20, 80)])
    train_what(
        reader,
        [reader.read(case).features for case in cases],
        {"death": target},
        WhatSettings(epochs=40, learning_rate=1e-2),
    )
    diagnoser = tiny.build_diagnoser(model)

    young, old = (diagnoser.diagnose(cases[row]).tasks["death"] for row in (0, -1))

    assert young.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert old.probabilities[0] > 0.6 > young.probabilities[0]
    assert fit_calibration(task, np.zeros((60, 3)), target).n == 60


def test_any_concept_can_be_ranked_also_one_that_training_never_saw(tmp_path: Path) -> None:
    graph = tiny.build_graph()
    task = TaskSpec(
        name="diagnosis",
        title="Diagnosis",
        kind="ranking",
        classes=(
            ClassSpec(name="ring", title="Ring", concept=tiny.RING),
            ClassSpec(name="frontal", title="Frontal", concept=tiny.FRONTAL),
        ),
    )
    bert = str(tiny.write_tiny_bert(tmp_path))
    config = tiny.build_config(graph=graph, text=bert, has_volume=False)
    from medmm.encoders.text import TextEncoder

    reader = CaseReader(tiny.build_model(config, Labels(tasks=(task,))), TextEncoder(bert, 64), graph)
    view = reader.read(Case(case_id="a", report=Report(text="Dural tail is seen.")))

    ranked = rank_concepts(reader, view, "diagnosis", [tiny.GLIOBLASTOMA, tiny.MENINGIOMA])
    with torch.no_grad():
        reader.model.decisions["diagnosis"].walk_weight.fill_(50.0)
    by_walk = rank_concepts(reader, view, "diagnosis", [tiny.GLIOBLASTOMA, tiny.MENINGIOMA])

    assert {item.name for item in ranked} == {"Glioblastoma", "Meningioma"}
    assert by_walk[0].concept == tiny.MENINGIOMA
    with pytest.raises(UsageError, match="1 are not in it"):
        rank_concepts(reader, view, "diagnosis", ["HP:1"])
    with pytest.raises(UsageError, match="ranking task 'kind'"):
        rank_concepts(reader, view, "kind", [tiny.RING])


def test_a_noisy_task_is_given_less_weight() -> None:
    balance = TaskBalance(2)
    optimiser = torch.optim.Adam(balance.parameters(), lr=0.1)

    for _ in range(150):
        loss = balance(torch.tensor([0.1, 4.0]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    # the minimum of exp(-s) L + s / 2 is at s = log 2 L
    assert balance.log_variance.tolist() == pytest.approx([np.log(0.2), np.log(8.0)], abs=0.05)


@pytest.mark.slow
def test_training_with_balanced_tasks_learns_too(graph: KnowledgeGraph) -> None:
    reader, truth, cases = findings_model(graph)
    features = [replace(reader.read(case).features) for case in cases]

    train_what(reader, features, {"findings": truth}, WhatSettings(epochs=20, learning_rate=1e-2, balances_tasks=True))

    chances = 1 / (1 + np.exp(-predict_logits(reader, features)["findings"]))
    assert np.mean((chances[:, 1] > 0.5) == (truth[:, 1] == 1)) > 0.8
