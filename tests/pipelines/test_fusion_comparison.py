"""The comparison of fusions: its tables say what its probabilities say."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch

from kg import KnowledgeGraph
from medmm.config import Labels, ModelConfig
from medmm.fusion.kinds import FUSIONS
from medmm.inputs import CaseFeatures, CaseReader
from pipelines.statistics import auroc
from pipelines.training.fusion_comparison import (
    GRAPHS,
    Comparison,
    Learned,
    Setting,
    compare,
    only,
    tables,
    to_markdown,
    write_comparison,
)
from pipelines.training.what import WhatSettings, train_what

SINGLE = ("record alone", "graph alone")
METRICS = {"grade": {"auroc": auroc}}


def chances(rng: np.random.Generator, truth: np.ndarray, signal: float) -> np.ndarray:
    """Two-class probabilities that know the truth as well as `signal` says."""
    logits = signal * (2 * truth - 1) + rng.standard_normal(len(truth))
    high = 1 / (1 + np.exp(-logits))
    return np.stack([1 - high, high], axis=1)


@pytest.fixture(scope="module")
def result() -> Comparison:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=60)
    signals = dict.fromkeys((*FUSIONS, *SINGLE, *GRAPHS), 0.0) | {"hybrid": 3.0, "record alone": 0.8}
    answers = {name: {"grade": chances(rng, truth, signal)} for name, signal in signals.items()}
    unknown = truth.copy()
    unknown[:5] = -1
    return Comparison(
        truth={"grade": unknown},
        chances=answers,
        metrics=METRICS,
        available={"hybrid": {"nothing": answers["late"]}},
    )


def test_every_fusion_is_held_against_the_best_single_modality(result: Comparison) -> None:
    grade = tables(result, 100)["grade"]

    assert grade["n"] == 55  # type: ignore[index]  # a table
    differences = grade["auroc"]["difference"]  # type: ignore[index]
    assert {differences[name]["from"] for name in FUSIONS} == {"record alone"}
    assert {differences[name]["from"] for name in GRAPHS} == {"hybrid"}
    assert differences["hybrid"]["low"] > 0 > differences[GRAPHS[0]]["high"]


def test_probabilities_are_written_so_that_figures_can_be_counted_again(result: Comparison, tmp_path: Path) -> None:
    write_comparison(result, tmp_path, 20)

    written = json.loads((tmp_path / "fusion_comparison.json").read_text())
    assert written["grade"]["n"] == 55
    again = np.load(tmp_path / "probabilities.npz")
    np.testing.assert_array_equal(again["hybrid/grade"], result.chances["hybrid"]["grade"])


def test_tables_say_where_a_difference_cannot_be_told_from_none() -> None:
    def table(low: float) -> dict[str, object]:
        return {
            "value": {"record alone": {"value": 0.5, "low": 0.4, "high": 0.6}},
            "difference": {"record alone": {"value": 0.1, "low": low, "high": 0.2, "from": "hybrid"}},
            "available": {"hybrid": {"nothing": 0.25, "record": 0.5}, "late": {"nothing": 0.3, "record": 0.6}},
        }

    written = to_markdown({"grade": {"n": 7, "macro_f1": table(-0.05), "accuracy": table(0.05)}})

    doubtful, clear = written.split("### grade, accuracy (7 cases)")
    row = "| record alone | 0.500 (0.400 to 0.600) | +0.100 "
    assert doubtful.startswith("### grade, macro f1 (7 cases)")
    assert row + "(-0.050 to +0.200), not distinguishable | hybrid |" in doubtful
    assert row + "(+0.050 to +0.200) | hybrid |" in clear
    assert "| available | hybrid | late |\n| --- | --- | --- |\n| nothing | 0.250 | 0.300 |" in clear


@dataclass(slots=True)
class RecordFold:
    """A fold of cases whose age gives the grade away, and a graph that says nothing."""

    features: list[CaseFeatures]
    targets: dict[str, np.ndarray]
    is_training: np.ndarray

    def learn(self, config: ModelConfig, graph: KnowledgeGraph | None, only_modality: str | None = None) -> Learned:
        torch.manual_seed(0)
        reader = CaseReader(tiny.build_model(config, LABELS), None, graph)
        features = [only(item, only_modality) if only_modality else item for item in self.features]
        rows = np.flatnonzero(self.is_training)
        seen = {name: values[rows] for name, values in self.targets.items()}
        settings = WhatSettings(epochs=12, batch_size=8, learning_rate=2e-2, seed=0)
        train_what(reader, [features[int(row)] for row in rows], seen, settings)
        return Learned(reader, features)


LABELS = Labels(tasks=(tiny.GRADE,))


def test_every_variant_answers_the_cases_that_it_did_not_learn_from() -> None:
    graph = tiny.build_graph()
    ages = np.linspace(-2, 2, 24)
    truth = np.digitize(ages, [-0.7, 0.7])
    order = np.random.default_rng(0).permutation(24)
    reader = CaseReader(tiny.build_model(tiny.build_config(graph=graph, has_volume=False), LABELS), None, graph)
    subgraph, walk = reader.walk({tiny.RING: 1.0})
    features = [CaseFeatures(record=(float(ages[row]), 0.0), subgraph=subgraph, walk=walk) for row in order]
    targets = {"grade": truth[order]}
    setting = Setting(
        labels=LABELS,
        config=lambda known: tiny.build_config(graph=known, has_volume=False),
        graph=graph,
        used=("record", "graph"),
        targets=targets,
        metrics=METRICS,
        kinds=("hybrid", "concat"),
    )

    result = compare(setting, [RecordFold(features, targets, np.arange(24) % 2 != half) for half in (0, 1)])
    auc = {name: auroc(targets["grade"], chances["grade"]) for name, chances in result.chances.items()}

    assert set(auc) == {"hybrid", "concat", *SINGLE, *GRAPHS}
    assert min(auc["hybrid"], auc["concat"], auc["record alone"], auc[GRAPHS[0]]) > 0.8
    assert auc["graph alone"] < 0.7
    kept = result.available["hybrid"]
    assert set(kept) == {"nothing", "record", "graph", "record + graph"}
    np.testing.assert_allclose(kept["record + graph"]["grade"], result.chances["hybrid"]["grade"])
    np.testing.assert_allclose(kept["nothing"]["grade"][::2], kept["nothing"]["grade"][0:1].repeat(12, axis=0))
