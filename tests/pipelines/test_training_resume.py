"""Training stopped anywhere ends with the weights of training that was not; when to stop is up to validation."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import cohort
from torch import Tensor

from medmm.inputs import CaseReader
from pipelines.training import trainer
from pipelines.training.trainer import EpochSampler, SeedSteps, Watch, mixed_seed
from pipelines.training.what import WhatSettings, train_what
from pipelines.training.where import WhereSettings, train_where

WHERE = WhereSettings(
    widths=tiny.WIDTHS, epochs=3, slices_per_case=4, batch_size=2, learning_rate=1e-2, precision="32-true"
)
WHAT = WhatSettings(epochs=6, batch_size=4, learning_rate=1e-2)
State = dict[str, Tensor]


class KilledError(Exception):
    """Stands for the kill."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next fit die before its step number `step`."""
    alive = SeedSteps.on_train_batch_start

    def dies(self: SeedSteps, run: lightning.Trainer, module: lightning.LightningModule, *rest: object) -> None:
        if run.global_step == step:
            raise KilledError
        alive(self, run, module, *rest)

    monkeypatch.setattr(SeedSteps, "on_train_batch_start", dies)


def where_state(watch: Watch | None = None) -> State:
    examples = tiny.build_examples([tiny.build_phantom(seed) for seed in range(2)])
    return train_where(examples, WHERE, watch=watch).trunk.state_dict()


def what_state(watch: Watch | None = None, **options: object) -> State:
    features, targets = cohort(20, 0)
    reader = CaseReader(tiny.build_model(tiny.build_config()), None, None)
    train_what(reader, features, targets, replace(WHAT, patience=3), validation=range(14, 20), watch=watch)
    return reader.model.state_dict()


def assert_same(first: State, second: State) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("train", "n_steps"), [pytest.param(where_state, 12, marks=pytest.mark.slow), (what_state, 12)]
)
@pytest.mark.bad_input("H1")
def test_training_killed_at_any_step_and_resumed_ends_with_the_same_weights(
    train: object, n_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train()  # type: ignore[operator]  # one of the two above
    watch = Watch(checkpoints=tmp_path)
    for step in np.random.default_rng().integers(0, n_steps, 2):  # another place every time
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            kill_at(int(step), patch)
            train(watch)  # type: ignore[operator]  # one of the two above
            raise KilledError  # an earlier kill left it behind this step

    assert_same(whole, train(watch))  # type: ignore[operator]  # one of the two above


@pytest.mark.slow
def test_a_finished_fit_is_not_trained_again(tmp_path: Path) -> None:
    watch = Watch(checkpoints=tmp_path)
    first = where_state(watch)

    assert_same(first, where_state(watch))


def test_the_best_epoch_on_validation_is_kept_and_counted() -> None:
    features, targets = cohort(20, 0)
    targets["kind"][14:] = 1 - targets["kind"][14:]  # validation contradicts: every epoch makes it worse
    reader = CaseReader(tiny.build_model(tiny.build_config()), None, None)

    epochs = train_what(reader, features, targets, replace(WHAT, epochs=40, patience=2), validation=range(14, 20))

    assert epochs < 20


@pytest.mark.slow
def test_labels_of_validation_cases_never_enter_the_weights() -> None:
    features, targets = cohort(20, 0)
    states = []
    for flip in (False, True):
        changed = {name: values.copy() for name, values in targets.items()}
        if flip:
            changed["kind"][14:] = 1 - changed["kind"][14:]
        reader = CaseReader(tiny.build_model(tiny.build_config()), None, None)
        train_what(reader, features, changed, WHAT, validation=range(14, 20))  # no patience: validation has no say
        states.append(reader.model.state_dict())

    assert_same(*states)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), epoch=st.integers(0, 1000), n=st.integers(1, 40))
def test_every_row_comes_once_an_epoch_for_all_seeds(seed: int, epoch: int, n: int) -> None:
    module = lightning.LightningModule()
    module.__class__ = type("AtEpoch", (lightning.LightningModule,), {"current_epoch": epoch})

    keys = list(EpochSampler(range(n), module, seed))

    assert sorted(key % n for key in keys) == list(range(n))
    assert {key // n for key in keys} == {epoch}


def test_seeds_of_neighbouring_steps_differ() -> None:
    assert len({mixed_seed(0, epoch, step) for epoch in range(20) for step in range(20)}) == 400


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_losses_are_logged_for_people_to_look_at(name: trainer.LoggerName, tmp_path: Path) -> None:
    if name == "tensorboard":
        pytest.importorskip("tensorboardX")

    what_state(Watch(logger=name, logs=tmp_path, name="fit"))

    (folder,) = tmp_path.iterdir()
    assert any(path.name.startswith(("metrics.csv", "events.out")) for path in folder.iterdir())


@pytest.mark.slow
def test_two_processes_share_a_fit_under_torchrun(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(
        "import os, sys, tiny_models as tiny\n"
        "from safetensors.torch import save_file\n"
        "from test_training_resume import where_state\n"
        "weights = {name: value.contiguous() for name, value in where_state().items()}\n"
        "save_file(weights, f'{sys.argv[1]}/{os.environ[\"RANK\"]}.safetensors')\n",
        encoding="utf-8",
    )
    places = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]

    done = subprocess.run(
        [*command, str(tmp_path)], env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    from safetensors.torch import load_file

    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    learned = [name for name in first if "running_" not in name and "num_batches" not in name]
    assert all(torch.equal(first[name], second[name]) for name in learned)
