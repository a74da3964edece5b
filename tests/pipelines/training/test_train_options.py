"""Options of training: search, loggers, precision, controls, comparison with another training."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models as tiny
import torch
from test_training import cohort
from test_training_resume import WHERE, what_state
from training_builders import RECIPE, write_cases, write_recipe

import kg
import kg.controls
from medmm.errors import UsageError
from medmm.inputs import CaseReader
from pipelines.training import trainer
from pipelines.training.recipe import Recipe, read_recipe
from pipelines.training.run import TrainJob, gather, train
from pipelines.training.search import search_settings
from pipelines.training.trainer import Watch
from pipelines.training.what import WhatSettings
from pipelines.training.where import train_where

RECORD_RECIPE = """
name = "records"
logger = "none"
[model]
width = 8
record = ["x"]
[[tasks]]
name = "side"
classes = ["left", "right"]
[validation]
folds = 2
[leaks]
allow = ["report"]
[training.what]
epochs = 15
learning_rate = 1e-2
"""


def recipe_with_search(tmp_path: Path, trials: int) -> Recipe:
    text = RECIPE.replace(
        "[card]", f"[search]\ntrials = {trials}\ninner_folds = 2\nlearning_rate = [1e-6, 1e-2]\n[card]"
    )
    return read_recipe(write_recipe(tmp_path, text))


def test_a_search_finds_settings_within_its_bounds_and_the_same_again(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    features, targets = cohort(16, 0)
    start = WhatSettings(epochs=3, batch_size=8)
    patients = np.array([str(row) for row in range(16)])

    def searched() -> WhatSettings:
        reader = CaseReader(tiny.build_model(tiny.build_config()), None, None)
        before = {name: value.clone() for name, value in reader.model.state_dict().items()}
        found = search_settings(reader, features, targets, patients, start, recipe_with_search(tmp_path, 2))
        assert all(torch.equal(value, before[name]) for name, value in reader.model.state_dict().items())
        return found

    first, again = searched(), searched()

    assert first == again
    assert first != start
    assert 1e-6 <= first.learning_rate <= 1e-2
    assert replace(first, learning_rate=1e-3, weight_decay=0.0, modality_dropout=0.0) == replace(
        start, learning_rate=1e-3, weight_decay=0.0, modality_dropout=0.0
    )


def test_without_trials_nothing_is_searched(tmp_path: Path) -> None:
    features, targets = cohort(4, 0)
    reader = CaseReader(tiny.build_model(tiny.build_config()), None, None)
    start = WhatSettings()

    assert search_settings(reader, features, targets, np.arange(4), start, recipe_with_search(tmp_path, 0)) is start


def test_a_search_without_optuna_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    features, targets = cohort(4, 0)
    reader = CaseReader(tiny.build_model(tiny.build_config()), None, None)

    with pytest.raises(UsageError, match="needs Optuna") as caught:
        search_settings(reader, features, targets, np.arange(4), WhatSettings(), recipe_with_search(tmp_path, 2))

    assert "medmm[search]" in caught.value.remedy


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_losses_go_to_the_logger_that_is_asked_for(
    name: trainer.LoggerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")

    what_state(Watch(logger=name, logs=tmp_path, name="fit"))

    if name == "wandb":
        assert list(tmp_path.glob("wandb/offline-run-*"))
    else:
        assert list(tmp_path.rglob("metrics/training_loss"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_named(
    name: trainer.LoggerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(**_: object) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr(trainer, {"wandb": "WandbLogger", "mlflow": "MLFlowLogger"}[name], missing)

    with pytest.raises(UsageError, match=f"'{name}' needs a package") as caught:
        trainer.build_logger(Watch(logger=name, logs=tmp_path))

    assert f"medmm[{name}]" in caught.value.remedy


def test_a_trunk_learns_in_bfloat16_and_stays_near_float32() -> None:
    examples = tiny.build_examples([tiny.build_phantom()])
    short = replace(WHERE, epochs=1, slices_per_case=4)

    exact, fast = (
        train_where(examples, replace(short, precision=precision)).trunk.state_dict()
        for precision in ("32-true", "bf16-mixed")
    )

    assert all(value.dtype == exact[name].dtype for name, value in fast.items())  # only products are short
    assert any(not torch.equal(value, exact[name]) for name, value in fast.items())
    name = "unet.final_conv.weight"
    torch.testing.assert_close(fast[name], exact[name], atol=0.05, rtol=0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_float16_without_a_gpu_is_refused_and_not_replaced() -> None:
    with pytest.raises(UsageError, match="16-mixed needs a GPU") as caught:
        trainer.resolve_precision("16-mixed", "auto")

    assert caught.value.code == "device.none"


def write_records(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "report_text", "record.x", "record.noise", "label.side"])
        for number, (x, noise) in enumerate(rng.normal(size=(40, 2))):
            writer.writerow([f"c{number}", "", f"{x:.3f}", f"{noise:.3f}", ("left", "right")[int(x > 0)]])


@pytest.mark.slow
def test_two_trainings_are_compared_on_the_same_cases_out_of_fold(tmp_path: Path) -> None:
    write_records(tmp_path)
    without = write_recipe(tmp_path, RECORD_RECIPE.replace('["x"]', '["noise"]'))
    train(TrainJob(recipe=without, output=tmp_path / "noise", n_resamples=100))
    recipe = write_recipe(tmp_path, RECORD_RECIPE)

    job = TrainJob(recipe=recipe, output=tmp_path / "x", against=tmp_path / "noise.work", n_resamples=100)
    compared = train(job).comparisons["side"]

    assert compared.is_distinguishable
    assert compared.differences["auroc"].low > 0
    assert compared.differences["auroc"].n == 40
    assert "side" in json.loads((job.work_folder / "comparison.json").read_text())


def test_a_comparison_with_nothing_stops_before_training(tmp_path: Path) -> None:
    write_cases(tmp_path, 4)

    with pytest.raises(UsageError):
        train(TrainJob(recipe=write_recipe(tmp_path), output=tmp_path / "m", against=tmp_path / "none"))

    assert not (tmp_path / "m.work").exists()


def test_a_recipe_can_train_on_a_shuffled_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, shuffled = SimpleNamespace(hash="a" * 64), SimpleNamespace(hash="b" * 64)
    monkeypatch.setattr(kg, "load_default", lambda: graph)
    monkeypatch.setattr(kg.controls, "shuffled_graph", lambda given, seed: shuffled if given is graph else None)
    text = RECIPE.replace("[[tasks]]", '[model.graph]\ncontrol = "shuffled"\n[[tasks]]', 1)
    recipe = read_recipe(write_recipe(tmp_path, text))

    materials = gather(recipe, recipe.labels(), None)  # type: ignore[arg-type]  # no case is looked at

    assert materials.graph is shuffled
    assert materials.config.graph is not None
    assert materials.config.graph.hash == shuffled.hash
