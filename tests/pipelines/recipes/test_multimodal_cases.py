"""Radiology cases through the package's own model, on made-up cases: reading, training, answers, tests of reasons."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch

from medmm.checkpoint import load_checkpoint
from medmm.inputs import CaseFeatures, CaseReader
from medmm.types import Case, Report
from pipelines.recipes.radiology_cases.answers import read_labels, read_ranked
from pipelines.recipes.radiology_cases.cases import LOCATIONS, SUPERCLASSES, CaseInput, Diagnosis
from pipelines.recipes.radiology_cases.multimodal import fitting, spec
from pipelines.recipes.radiology_cases.multimodal.answering import write_model_answers
from pipelines.recipes.radiology_cases.multimodal.explaining import SHARES, measure_case, table
from pipelines.recipes.radiology_cases.multimodal.fitting import Materials, train_model
from pipelines.recipes.radiology_cases.multimodal.reading import (
    from_arrays,
    pack,
    to_arrays,
    to_record,
    to_report,
    unpack,
)
from pipelines.training.what import WhatSettings

DIAGNOSES = (
    Diagnosis(key="D0", names=("Glioblastoma",)),
    Diagnosis(key="D1", names=("Meningioma",)),
    Diagnosis(key="D2", names=("Fall from a ladder",)),
)
N_CASES = 60


def case_input(**changes: str) -> CaseInput:
    plain = CaseInput(id="C1", age="40", sex="male", history="Pain.", exam="", findings="A mass.", pictures=())
    return replace(plain, **changes)  # type: ignore[arg-type]  # the fields changed here are strings


@pytest.fixture(scope="module")
def materials() -> Materials:
    """Cases whose sentences point to their place, their kind and the name of their diagnosis."""
    graph = tiny.build_graph()
    labels = spec.build_labels(DIAGNOSES, graph)
    rng = np.random.default_rng(0)
    truth = {name: rng.integers(count, size=N_CASES) for name, count in (("location", 5), ("superclass", 10))}
    truth["diagnosis"] = rng.integers(3, size=N_CASES)
    directions = torch.randn(18, spec.TEXT_WIDTH, generator=torch.Generator().manual_seed(0))
    subgraph, walk = CaseReader(
        tiny.build_model(spec.build_config(graph).model_copy(update={"images": None}), labels), None, graph
    ).walk({tiny.RING: 1.0})
    features = [
        CaseFeatures(
            text=torch.stack(
                [
                    directions[truth["location"][row]],
                    directions[5 + truth["superclass"][row]],
                    directions[15 + truth["diagnosis"][row]],
                ]
            ),
            record=(0.0, 1.0),
            subgraph=subgraph,
            walk=walk,
        )
        for row in range(N_CASES)
    ]
    names = {one.names[0]: directions[15 + number] for number, one in enumerate(DIAGNOSES)}
    return Materials(labels=labels, graph=graph, names=names, features=features, targets=truth)


def test_a_report_has_the_sections_that_were_written() -> None:
    report = to_report(case_input())

    assert report is not None
    assert report.text == "HISTORY:\nPain.\n\nFINDINGS:\nA mass."
    assert {part.name: report.text[part.start : part.end] for part in report.sections} == {
        "history": "Pain.",
        "findings": "A mass.",
    }
    assert to_report(case_input(history=" ", findings="")) is None


@pytest.mark.parametrize(
    ("age", "sex", "values"),
    [
        ("40", "female", {"age_years": 40.0, "sex": "F"}),
        ("0", "male", {"sex": "M"}),
        ("5 months", "N/A", None),
        ("400", "", None),
    ],
)
def test_what_is_not_given_is_missing(age: str, sex: str, values: dict[str, object] | None) -> None:
    record = to_record(case_input(age=age, sex=sex))

    assert (None if record is None else dict(record.values)) == values


def test_features_come_back_from_the_work_folder_as_they_were(materials: Materials) -> None:
    cases = [
        replace(materials.features[0], record=None),
        CaseFeatures(images=torch.randn(2, 4), text=torch.zeros(0, spec.TEXT_WIDTH)),
        CaseFeatures(),
    ]

    back = [from_arrays(row) for row in unpack(pack([to_arrays(case) for case in cases]), 3)]

    for one, other in zip(cases, back, strict=True):
        assert one.present == other.present
        for name in ("images", "text"):
            value, again = getattr(one, name), getattr(other, name)
            assert (value is None) == (again is None)
            if value is not None:
                torch.testing.assert_close(value, again)
    assert cases[0].subgraph is not None and back[0].subgraph is not None
    np.testing.assert_array_equal(cases[0].subgraph.edges, back[0].subgraph.edges)
    np.testing.assert_array_equal(cases[0].walk["diagnosis"], back[0].walk["diagnosis"])


def test_a_diagnosis_has_the_concept_that_its_name_means() -> None:
    concepts = spec.diagnosis_concepts(DIAGNOSES, tiny.build_graph())

    assert concepts == {"D0": tiny.GLIOBLASTOMA, "D1": tiny.MENINGIOMA, "D2": ""}


@pytest.fixture
def untrained_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture network's weights do not matter here, and need not be installed."""
    monkeypatch.setattr("pipelines.recipes.radiology_cases.multimodal.reading.load_lite_weights", lambda network: None)


QUICK = WhatSettings(epochs=12, batch_size=16, learning_rate=1e-2)


@pytest.mark.usefixtures("untrained_pictures")
def test_a_trained_model_is_calibrated_written_and_measured(
    materials: Materials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "gather", lambda *_: materials)
    monkeypatch.setattr(fitting, "N_FOLDS", 2)

    figures = train_model(tmp_path, None, tmp_path / "model", ["train"], materials.graph, QUICK)

    assert figures["location"]["accuracy"].value > 0.7  # by a model that never saw the case
    assert figures["diagnosis"]["reciprocal_rank"].value > 0.8
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.model.labels.task("location").calibration.n == N_CASES
    assert loaded.metrics["location"]["accuracy"]["value"] == figures["location"]["accuracy"].value
    assert f"{N_CASES} cases of the splits train" in loaded.card
    assert loaded.training_cases is not None and len(loaded.training_cases.labels) == N_CASES

    diagnoser = tiny.build_diagnoser(loaded.model, graph=materials.graph)
    ids = [f"C{number}" for number in range(N_CASES)]
    write_model_answers(diagnoser, materials.features, ids, tmp_path / "answers")
    said = read_labels(tmp_path / "answers" / "T1_case_hef_images.csv", "id")
    truth = [LOCATIONS[number] for number in materials.targets["location"]]
    assert np.mean([said[name] == place for name, place in zip(ids, truth, strict=True)]) > 0.9
    assert set(read_labels(tmp_path / "answers" / "T2_hef.csv", "id").values()) <= set(SUPERCLASSES)
    ranked = read_ranked(tmp_path / "answers" / "T3_hef.csv", "id")
    first = [DIAGNOSES[number].key for number in materials.targets["diagnosis"]]
    assert np.mean([ranked[name][0] == key for name, key in zip(ids, first, strict=True)]) > 0.9


def test_reasons_are_tested_case_by_case(tmp_path: Path) -> None:
    from medmm.encoders.text import TextEncoder

    folder, graph = tiny.write_tiny_bert(tmp_path / "bert"), tiny.build_graph()
    model = tiny.build_model(tiny.build_config(graph=graph, text=str(folder), has_volume=False))
    diagnoser = tiny.build_diagnoser(model, text_encoder=TextEncoder(str(folder), 64), graph=graph)

    rows = measure_case(diagnoser, Case(case_id="a", report=Report(text=tiny.REPORT)))

    assert {row["test"] for row in rows} >= {"word comprehensiveness", "word sufficiency", SHARES}
    for row in rows:
        if row["test"] == SHARES:
            assert row["value"] == pytest.approx(row["reference"], abs=1e-6)
    assert "add up to the probability within" in table(rows)


def test_less_lost_with_the_important_words_counts_as_a_gain() -> None:
    rows = [
        {"case": "a", "task": "t", "test": "word sufficiency", "value": 0.1, "reference": 0.3},
        {"case": "a", "task": "t", "test": "word comprehensiveness", "value": 0.1, "reference": 0.3},
    ]

    shown = table(rows)  # type: ignore[arg-type]  # rows of strings and numbers

    assert "| word sufficiency | 1 | 0.100 | 0.300 | +0.200 (+0.200 to +0.200) | 1 |" in shown
    assert "| word comprehensiveness | 1 | 0.100 | 0.300 | -0.200 (-0.200 to -0.200) | 0 |" in shown
