"""Labels of every kind of task: read once, measured by what fits the kind, trained on and evaluated."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medmm.config import ClassSpec, TaskSpec
from medmm.errors import UsageError
from pipelines import statistics as stats
from pipelines.evaluation.run import EvaluationJob, evaluate
from pipelines.labels import is_known, parse_label, parse_labels
from pipelines.training.run import TrainJob, train

CLASSES = tuple(ClassSpec(name=name, title=name) for name in ("a", "b", "c"))


def task(kind: str) -> TaskSpec:
    return TaskSpec(name="t", title="T", kind=kind, classes=CLASSES)  # type: ignore[arg-type]  # a kind by name


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("exclusive", "b", 1),
        ("ranking", "c", 2),
        ("ordinal", "", -1),
        ("multilabel", "a|c", [1, 0, 1]),
        ("multilabel", "none", [0, 0, 0]),
        ("multilabel", "", [-1, -1, -1]),
        ("survival", "b", [1, 1]),
        ("survival", "b+", [1, 0]),
        ("survival", "", [-1, -1]),
    ],
)
def test_a_label_is_what_its_kind_needs(kind: str, text: str, expected: object) -> None:
    assert parse_label(task(kind), text).tolist() == expected


@pytest.mark.parametrize("kind", ["exclusive", "multilabel", "survival"])
def test_a_name_that_is_no_class_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="no class of the model"):
        parse_label(task(kind), "d")


def test_known_labels_are_told_from_unknown_ones() -> None:
    assert is_known(parse_labels(task("multilabel"), ["a", "", "none"])).tolist() == [True, False, True]
    assert is_known(parse_labels(task("ordinal"), ["a", ""])).tolist() == [True, False]


def findings(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random((60, 4)) < 0.4).astype(int)
    return truth, np.round(np.clip(0.3 * truth + 0.7 * rng.random((60, 4)), 0, 1), 2)


@pytest.mark.parametrize("seed", range(3))
def test_findings_are_measured_as_scikit_learn_does(seed: int) -> None:
    truth, chances = findings(seed)

    assert stats.multilabel_auroc(truth, chances) == pytest.approx(sklearn_metrics.roc_auc_score(truth, chances))
    expected = sklearn_metrics.average_precision_score(truth, chances)
    assert stats.multilabel_auprc(truth, chances) == pytest.approx(expected)
    said = chances > 0.5
    expected = sklearn_metrics.f1_score(truth, said, average="macro")
    assert stats.multilabel_f1(truth, said) == pytest.approx(expected)
    assert stats.multilabel_brier(truth, chances) == pytest.approx(sklearn_metrics.mean_squared_error(truth, chances))


def test_unknown_findings_have_no_say() -> None:
    truth, chances = findings(0)
    hidden = truth.copy()
    hidden[::2, 1] = -1
    changed = chances.copy()
    changed[::2, 1] = 0.5

    assert stats.multilabel_auroc(hidden, chances) == stats.multilabel_auroc(hidden, changed)
    assert stats.multilabel_brier(hidden, chances) == stats.multilabel_brier(hidden, changed)


def test_early_intervals_first_is_full_concordance() -> None:
    truth = np.array([[0, 1], [1, 1], [2, 1], [2, 0]])

    assert stats.interval_concordance(truth, np.eye(3)[truth[:, 0]]) == pytest.approx(1, abs=0.2)
    assert stats.interval_concordance(truth[:3], np.eye(3)[[0, 1, 2]]) == 1
    assert stats.interval_concordance(truth[:3], np.eye(3)[[2, 1, 0]]) == 0


RECIPE = """
name = "kinds"
logger = "none"
[model]
width = 8
record = ["x", "y"]
[[tasks]]
name = "findings"
kind = "multilabel"
classes = ["high", "right"]
[[tasks]]
name = "time"
kind = "survival"
classes = ["early", "middle", "late"]
[[tasks]]
name = "rank"
kind = "ranking"
classes = ["one", "two", "three"]
[validation]
folds = 2
stratify = ["findings"]
[leaks]
allow = ["report"]
[training.what]
epochs = 20
learning_rate = 1e-2
"""


def test_findings_survival_and_rankings_are_trained_and_evaluated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with (tmp_path / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["case", "report_text", "split", "record.x", "record.y", "label.findings", "label.time", "label.rank"]
        )
        for n, (x, y) in enumerate(rng.normal(size=(80, 2))):
            there = "|".join(name for name, is_there in (("high", y > 0), ("right", x > 0)) if is_there) or "none"
            time = ("early", "middle", "late")[int(np.digitize(x, [-0.4, 0.4]))] + "+" * (n % 4 == 0)
            split = "test" if n % 4 == 3 else "train"
            writer.writerow([f"c{n}", "", split, f"{x:.3f}", f"{y:.3f}", there, time, ("one", "two", "three")[n % 3]])
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    train(TrainJob(recipe=tmp_path / "recipe.toml", output=tmp_path / "model", n_resamples=100))

    evaluate(
        EvaluationJob(
            model=str(tmp_path / "model"), manifest=tmp_path / "cases.csv", output=tmp_path / "out", n_resamples=100,
            device="cpu",
        )
    )  # fmt: skip

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["findings"]["auroc"]["value"] > 0.8
    assert metrics["time"]["c_index"]["value"] > 0.7
    assert {"mrr", "ece"} <= set(metrics["rank"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "C-index" in page
