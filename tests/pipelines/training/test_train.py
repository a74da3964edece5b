"""`medmm train` on phantoms: from recipe and manifest to a model that diagnoses, and back again after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from training_builders import RECIPE, write_cases, write_recipe
from typer.testing import CliRunner

import medmm
from medmm.errors import UsageError
from medmm.similar import FILE
from pipelines.cli.app import app
from pipelines.evaluation.predictions import read_predictions
from pipelines.evaluation.run import TRAINING_CASES, EvaluationJob, evaluate
from pipelines.training.run import TrainJob, train

N_CASES = 12


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A finished training on twelve phantoms."""
    folder = tmp_path_factory.mktemp("train")
    write_cases(folder, N_CASES)
    job = TrainJob(recipe=write_recipe(folder), output=folder / "model", n_resamples=100)
    train(job)
    return job


@pytest.mark.slow
def test_the_model_diagnoses_a_new_case(job: TrainJob) -> None:
    diagnoser = medmm.load_model(str(job.output), device="cpu")

    diagnosis = diagnoser.diagnose(tiny.build_case(99, text=None, is_left=True))

    assert diagnosis.tasks["side"].prediction == "left"
    assert diagnosis.regions["lesion"].is_found


@pytest.mark.slow
def test_answers_are_calibrated_on_every_case_out_of_fold(job: TrainJob) -> None:
    labels = json.loads((job.output / "labels.json").read_text())

    assert {task["name"]: task["calibration"]["n"] for task in labels["tasks"]} == {"kind": N_CASES, "side": N_CASES}


@pytest.mark.slow
def test_what_can_be_seen_is_right_out_of_fold(job: TrainJob) -> None:
    metrics = json.loads((job.output / "metrics.json").read_text())

    assert metrics["side"]["accuracy"]["value"] > 0.8
    assert metrics["lesion"]["dice_mean"]["value"] > 0.4
    assert metrics["kind"]["auroc"]["n"] == N_CASES


@pytest.mark.slow
def test_record_fields_have_the_mean_of_the_cases(job: TrainJob) -> None:
    config = json.loads((job.output / "config.json").read_text())

    age, sex = config["record"]
    assert age["mean"] == pytest.approx(np.mean([30 + 2 * n for n in range(N_CASES)]))
    assert sex["categories"] == ["f", "m"]


@pytest.mark.slow
def test_the_card_states_data_figures_limits_and_cost(job: TrainJob) -> None:
    card = (job.output / "README.md").read_text()

    parts = (
        "## Data\nPhantoms.", f"{N_CASES} cases of {N_CASES} patients", "2-fold", "| side | auroc |", "## Cost", "kWh",
        "leaks of kind image were allowed", "CC0", "not a medical device",
    )  # fmt: skip
    for part in parts:
        assert part in card, part


@pytest.mark.slow
def test_out_of_fold_answers_can_be_compared_with(job: TrainJob) -> None:
    tables = read_predictions(job.work_folder / "predictions.csv")

    assert len(tables["side"].by_case) == N_CASES
    np.testing.assert_allclose(sum(tables["side"].by_case["case-0"]), 1, atol=1e-5)


@pytest.mark.slow
def test_the_model_remembers_its_cases_by_hash_only(job: TrainJob) -> None:
    text = (job.output / TRAINING_CASES).read_text()

    assert len(json.loads(text)) >= 2 * N_CASES
    assert "case-" not in text
    assert "Jane" not in text


@pytest.mark.slow
def test_the_model_shows_its_training_cases_by_number_and_label_only(job: TrainJob) -> None:
    diagnoser = medmm.load_model(str(job.output), device="cpu")
    case = tiny.build_case(99, text=None, is_left=True)

    similar = diagnoser.explain(case, diagnoser.diagnose(case)).similar

    assert len(similar) == 5
    assert all(item.case_id.startswith("training-") and set(item.labels) == {"kind", "side"} for item in similar)
    stored = (job.output / FILE).read_bytes()
    assert b"case-" not in stored
    assert b"Jane" not in stored


@pytest.mark.slow
def test_evaluating_on_the_training_cases_is_refused_unless_it_is_meant(job: TrainJob, tmp_path: Path) -> None:
    asked = EvaluationJob(
        model=str(job.output), manifest=job.recipe.parent / "cases.csv", output=tmp_path / "out", n_resamples=100,
        device="cpu", has_controls=False,
    )  # fmt: skip

    with pytest.raises(UsageError, match="trained on the case in row 1"):
        evaluate(asked)

    assert evaluate(replace(asked, allow_training_cases=True)).n_cases == N_CASES


@pytest.mark.slow
def test_curves_are_kept_and_the_rest_is_cleared_away(job: TrainJob) -> None:
    assert {path.name for path in job.work_folder.iterdir()} == {"fingerprint.json", "folds", "logs", "predictions.csv"}
    assert "validation_loss" in (job.work_folder / "logs" / "fold-0-0-what" / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten_unasked(job: TrainJob) -> None:
    with pytest.raises(UsageError, match="a model in the output folder") as caught:
        train(job)

    assert caught.value.code == "config.output"


@pytest.mark.slow
@pytest.mark.bad_input("G6")
def test_another_recipe_cannot_go_on_from_here(job: TrainJob, tmp_path: Path) -> None:
    other = write_recipe(tmp_path, RECIPE.replace("patience = 2", "patience = 3"))
    manifest = job.recipe.parent / "cases.csv"

    with pytest.raises(UsageError, match="another recipe or manifest"):
        train(replace(job, recipe=other, manifest=manifest, may_resume=True))


def test_a_check_trains_nothing(tmp_path: Path) -> None:
    write_cases(tmp_path, 4)

    result = CliRunner().invoke(app, ["train", str(write_recipe(tmp_path)), "--out", str(tmp_path / "m"), "--check"])

    assert result.exit_code == 0, result.exception
    assert "4 cases of 4 patients, 2 folds" in result.stdout
    assert not (tmp_path / "m").exists()


@pytest.mark.bad_input("E11")
@pytest.mark.parametrize("column", ["record.age_years", "label.kind"])
def test_a_column_that_the_recipe_names_and_the_manifest_lacks_is_named(column: str, tmp_path: Path) -> None:
    manifest = write_cases(tmp_path, 4)
    manifest.write_text(manifest.read_text().replace(column, f"record.not_{column[-3:]}", 1))

    with pytest.raises(UsageError, match=column) as caught:
        train(TrainJob(recipe=write_recipe(tmp_path), output=tmp_path / "model"))

    assert caught.value.code == "config.table"


def test_a_case_that_cannot_be_read_stops_training_before_it_starts(tmp_path: Path) -> None:
    write_cases(tmp_path, 4)
    (tmp_path / "2_flair.nii.gz").write_bytes(b"no image")

    with pytest.raises(UsageError, match="row 3"):
        train(TrainJob(recipe=write_recipe(tmp_path), output=tmp_path / "model"))


@pytest.mark.slow
@pytest.mark.bad_input("H1")
def test_a_process_killed_at_a_random_moment_leaves_what_resume_makes_whole(job: TrainJob, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "train", str(job.recipe), "--out", str(tmp_path / "model")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
    folds, deadline = tmp_path / "model.work" / "fits", time.monotonic() + 120
    while not list(folds.rglob("*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(float(np.random.default_rng().uniform(0, 2)))
    process.send_signal(signal.SIGKILL)
    process.wait()

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False, env={**os.environ})

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (job.output / "model.safetensors").read_bytes()
    assert (tmp_path / "model" / "labels.json").read_bytes() == (job.output / "labels.json").read_bytes()
