"""`medmm select`: simulated labelling rounds against random choice, and what the ranking must hold."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from evaluation_builders import phantom_rows, read_csv, write_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from medmm.checkpoint import save_model
from medmm.errors import UsageError
from pipelines.cli.app import app
from pipelines.selection import Pool, rank_cases, uncertainty_of
from pipelines.statistics import bootstrap

ROUNDS, PER_ROUND = 5, 6


def world(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Cases of six kinds in a plane, two of them common and four rare."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(6, 4)) * 2.2
    kind = rng.choice(6, n, p=[0.4, 0.4, 0.05, 0.05, 0.05, 0.05])
    return centres[kind] + rng.normal(size=(n, 4)), kind


def accuracy_after_rounds(seed: int, *, is_random: bool) -> float:
    """Balanced accuracy on unseen cases after labelling rounds that start from six random cases."""
    points, kind = world(seed, 300)
    test_points, test_kind = world(seed + 10_000, 400)
    rng = np.random.default_rng(seed)
    labelled = np.zeros(len(points), dtype=bool)
    labelled[rng.choice(len(points), 6, replace=False)] = True
    while len(set(kind[labelled].tolist())) < 2:
        labelled[rng.integers(len(points))] = True
    for _ in range(ROUNDS):
        model = LogisticRegression(max_iter=500).fit(points[labelled], kind[labelled])
        if is_random:
            chosen = rng.choice(np.flatnonzero(~labelled), PER_ROUND, replace=False)
        else:
            doubt = np.array([uncertainty_of([row]) for row in model.predict_proba(points)])
            names = tuple(str(n) for n in range(len(points)))
            pool = Pool(cases=names, embeddings=points, uncertainty=doubt, is_labelled=labelled)
            chosen = np.array([int(choice.case) for choice in rank_cases(pool, PER_ROUND)])
        labelled[chosen] = True
    model = LogisticRegression(max_iter=500).fit(points[labelled], kind[labelled])
    right = model.predict(test_points) == test_kind
    return float(np.mean([right[test_kind == label].mean() for label in set(test_kind.tolist())]))


@pytest.mark.slow
def test_choosing_teaches_more_than_chance_over_simulated_rounds() -> None:
    gains = np.array(
        [
            accuracy_after_rounds(seed, is_random=False) - accuracy_after_rounds(seed, is_random=True)
            for seed in range(20)
        ]
    )

    gain = bootstrap(lambda values: float(values.mean()), gains)

    print(f"balanced accuracy gained over random choice: {gain}")  # noqa: T201  # the figure is the test's result
    assert gain.low > 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 30), count=st.integers(1, 40))
def test_every_choice_is_new_and_unlabelled_for_all_pools(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labelled = rng.random(n) < 0.4
    pool = Pool(
        cases=tuple(map(str, range(n))), embeddings=rng.normal(size=(n, 3)), uncertainty=rng.random(n),
        is_labelled=labelled,
    )  # fmt: skip

    chosen = [int(choice.case) for choice in rank_cases(pool, count)]

    assert len(chosen) == len(set(chosen)) == min(count, int((~labelled).sum()))
    assert not labelled[chosen].any()


def test_of_two_equal_cases_one_is_enough() -> None:
    embeddings = np.array([[0.0, 0], [0, 0], [5, 5]])
    pool = Pool(
        cases=("a", "twin", "other"), embeddings=embeddings, uncertainty=np.array([0.9, 0.9, 0.3]),
        is_labelled=np.zeros(3, bool),
    )  # fmt: skip

    assert [choice.case for choice in rank_cases(pool, 3)] == ["a", "other", "twin"]


def test_not_knowing_at_all_is_one_and_being_sure_is_zero() -> None:
    assert uncertainty_of([np.full(4, 0.25)]) == pytest.approx(1)
    assert uncertainty_of([np.array([1.0, 0.0])]) == pytest.approx(0, abs=1e-9)


def test_the_command_ranks_what_has_no_label(tmp_path: Path) -> None:
    rows = phantom_rows(tmp_path, 4)
    for row in rows[1:]:
        row["label.side"] = ""
    model = tiny.build_model(tiny.build_config())
    tiny.mark(model, 3.0)
    save_model(tmp_path / "model", model, metrics={}, card="# tiny\n")
    arguments = [
        "--model",
        str(tmp_path / "model"),
        "--manifest",
        str(write_manifest(tmp_path, rows)),
        "--task",
        "side",
    ]

    result = CliRunner().invoke(app, ["select", *arguments, "--out", str(tmp_path / "next.csv"), "--device", "cpu"])

    assert result.exit_code == 0, result.exception
    assert {row["case"] for row in read_csv(tmp_path / "next.csv")} == {"case-1", "case-2", "case-3"}


def test_a_task_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny.build_model(tiny.build_config()), metrics={}, card="# tiny\n")
    manifest = write_manifest(tmp_path, phantom_rows(tmp_path, 1))
    arguments = ["--model", str(tmp_path / "model"), "--manifest", str(manifest), "--task", "stage"]

    result = CliRunner().invoke(app, ["select", *arguments, "--out", str(tmp_path / "next.csv")])

    assert isinstance(result.exception, UsageError)
    assert "no task 'stage'" in str(result.exception)
