"""A heatmap finds what was planted, and finds it because of what was learned."""

import numpy as np
import pytest
import tiny_models as tiny
import torch

from medmm.diagnose import Diagnoser
from medmm.inputs import CaseReader
from medmm.model import MultimodalModel
from medmm.types import Case
from pipelines.training.what import WhatSettings, fit_locations, train_what

N_UNSEEN = 12


def phantom_of(seed: int) -> tiny.Phantom:
    """Bright balls are of the first kind, dark ones of the second."""
    return tiny.build_phantom(seed, contrast=-70.0 if seed % 2 else 120.0)


def case_of(seed: int) -> Case:
    return Case(case_id=str(seed), volumes=phantom_of(seed).volumes)


@pytest.fixture(scope="module")
def diagnoser() -> Diagnoser:
    """A model that learned to mark balls, and to tell bright from dark ones."""
    config = tiny.build_config()
    volume = config.volume.model_copy(update={"tokens": ("descriptor", "features")})  # type: ignore[union-attr]
    model = tiny.build_model(config.model_copy(update={"volume": volume}))
    seeds = np.arange(16)
    trunk = tiny.train_tiny_trunk([phantom_of(int(seed)) for seed in seeds])
    model.trunk.load_state_dict(trunk.state_dict())
    reader = CaseReader(model.eval(), None, None)
    features = [reader.read(case_of(int(seed))).features for seed in seeds]
    sides = np.array([0 if phantom_of(int(seed)).is_left else 1 for seed in seeds])
    targets = {"kind": seeds % 2, "grade": np.full(len(seeds), -1), "side": sides}
    fit_locations(model, features, targets)
    train_what(reader, features, targets, WhatSettings(epochs=30, batch_size=8, learning_rate=1e-2))
    return tiny.build_diagnoser(model)


def share_of_peaks_in_lesion(diagnoser: Diagnoser, task: str) -> float:
    """How often the brightest voxel of the heatmap lies in the planted ball, or within two voxels of it."""
    hits = []
    for seed in range(100, 100 + N_UNSEEN):
        case, phantom = case_of(seed), phantom_of(seed)
        volumes = diagnoser.explain(case, diagnoser.diagnose(case)).tasks[task].volumes
        if volumes:
            peak = np.array(volumes[0].peak_index)
            hits.append(np.abs(np.argwhere(phantom.mask) - peak).max(axis=1).min() <= 2)
        else:
            hits.append(False)
    return float(np.mean(hits))


def shuffle_trunk(model: MultimodalModel) -> None:
    """Permute the numbers of every tensor of the trunk, so that only what was learned is lost."""
    generator = torch.Generator().manual_seed(0)
    for value in model.trunk.parameters():
        order = torch.randperm(value.numel(), generator=generator)
        value.copy_(value.flatten()[order].reshape(value.shape))


@pytest.mark.parametrize("task", ["kind", "side"])
def test_the_heatmap_peaks_in_the_planted_ball(diagnoser: Diagnoser, task: str) -> None:
    # By chance one in ten: so much of the volume a ball and its margin fill.
    assert share_of_peaks_in_lesion(diagnoser, task) >= 0.75


def test_the_region_dies_when_the_weights_of_the_trunk_are_shuffled(diagnoser: Diagnoser) -> None:
    model = tiny.build_model(diagnoser.model.config)
    model.load_state_dict(diagnoser.model.state_dict())
    with torch.no_grad():
        shuffle_trunk(model)

    assert share_of_peaks_in_lesion(tiny.build_diagnoser(model), "side") <= 0.25
