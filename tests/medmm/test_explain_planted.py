"""A heatmap finds what was planted, and finds it because of what was learned."""

import numpy as np
import pytest
import tiny_models as tiny
import torch

from medmm.diagnose import Diagnoser
from medmm.model import MultimodalModel
from medmm.types import Case

N_UNSEEN = 12


@pytest.fixture(scope="module")
def diagnoser() -> Diagnoser:
    """A trunk that learned to mark balls, under untrained heads that read what lies under the mark."""
    config = tiny.build_config()
    volume = config.volume.model_copy(update={"tokens": ("features",)})  # type: ignore[union-attr]  # it has one
    model = tiny.build_model(config.model_copy(update={"volume": volume}))
    model.trunk.load_state_dict(tiny.train_tiny_trunk().state_dict())
    return tiny.build_diagnoser(model.eval())


def share_of_peaks_in_lesion(diagnoser: Diagnoser, task: str) -> float:
    """How often the brightest voxel of the heatmap lies in the planted ball, or within two voxels of it."""
    hits = []
    for seed in range(100, 100 + N_UNSEEN):
        phantom = tiny.build_phantom(seed)
        case = Case(case_id=str(seed), volumes=phantom.volumes)
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
    # A ball with its margin fills a tenth of the volume. Untrained heads also weigh what lies beside it.
    assert share_of_peaks_in_lesion(diagnoser, task) > 0.5


def test_the_explanation_dies_when_the_weights_are_shuffled(diagnoser: Diagnoser) -> None:
    model = tiny.build_model(diagnoser.model.config)
    model.load_state_dict(diagnoser.model.state_dict())
    with torch.no_grad():
        shuffle_trunk(model)

    assert share_of_peaks_in_lesion(tiny.build_diagnoser(model), "kind") <= 0.25
