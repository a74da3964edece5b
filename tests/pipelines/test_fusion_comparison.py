"""The comparison of fusions: its tables say what its probabilities say."""

import json
from pathlib import Path

import numpy as np
import pytest

from medmm.fusion.kinds import FUSIONS
from pipelines.recipes.glioma_mri.fusion_comparison import GRAPHS, SINGLE, Comparison, tables, write_comparison


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
    return Comparison(truth={"grade": unknown}, chances=answers, available={"hybrid": {"nothing": answers["late"]}})


def test_every_fusion_is_held_against_the_best_single_modality(result: Comparison) -> None:
    grade = tables(result, 100)["grade"]

    assert grade["n"] == 55  # type: ignore[index]  # a table
    differences = grade["difference"]  # type: ignore[index]
    assert {differences[name]["from"] for name in FUSIONS} == {"record alone"}
    assert {differences[name]["from"] for name in GRAPHS} == {"hybrid"}
    assert differences["hybrid"]["low"] > 0 > differences[GRAPHS[0]]["high"]


def test_the_tables_say_which_trunks_were_used(result: Comparison, tmp_path: Path) -> None:
    write_comparison(result, tmp_path, 20)

    written = json.loads((tmp_path / "fusion_comparison.json").read_text())
    assert written["trunks"] == "shipped: saw these patients"
    again = np.load(tmp_path / "probabilities.npz")
    np.testing.assert_array_equal(again["hybrid/grade"], result.chances["hybrid"]["grade"])
