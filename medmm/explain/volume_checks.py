"""Tests of a heatmap on its own case: deletion, insertion, randomised weights, repeatability."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medmm.config import TaskSpec
from medmm.encoders.slice_unet import look
from medmm.encoders.volume import summarise
from medmm.explain.faithfulness import Curves, block_table, curves, likeness, order_by_map
from medmm.explain.gradients import contributions, trace
from medmm.explain.methods import VolumeMethod
from medmm.explain.question import VolumeQuestion, ask
from medmm.explain.volume import attribute_volume
from medmm.inputs import CaseReader, CaseView
from medmm.model import MultimodalModel
from medmm.results import NOTICEABLE, ExplanationCheck

N_RANDOM = 2
DIES_BELOW = 0.5  # rank correlation with the map of shuffled weights
REPEATS_FROM = 0.8  # rank correlation with the map of a slightly noisier volume
NOISE = 0.05  # of the head's deviation


@dataclass(frozen=True, slots=True)
class RandomOrders:
    """Deletion and insertion of one case in random orders; every task and method is held against the same ones."""

    draws: tuple[Curves, ...]

    def deletion(self, task: str, target: int) -> float:
        """Mean probability of the target while random blocks are taken away."""
        return float(np.mean([draw.deletion[task][target] for draw in self.draws]))

    def insertion(self, task: str, target: int) -> float:
        """Mean probability of the target while random blocks are put back."""
        return float(np.mean([draw.insertion[task][target] for draw in self.draws]))


def random_orders(question: VolumeQuestion, rng: np.random.Generator, n: int = N_RANDOM) -> RandomOrders:
    """Draw random orders of the head's blocks and follow them."""
    count = len(block_table(question))
    return RandomOrders(tuple(curves(question, rng.permutation(count)) for _ in range(n)))


def volume_map(reader: CaseReader, view: CaseView, task: TaskSpec, target: int, method: VolumeMethod) -> Tensor | None:
    """Contributions (S, D, H, W) on the network's grid, by themselves; None without a volume."""
    question = ask(reader, view, task, target)
    if question is None:
        return None
    gradient = None
    if method == "lesion" and task.source == "fusion":
        gradient = contributions(trace(reader, [view]), task, [target])[0].lesion
    return attribute_volume(method, question, view, gradient)


def check_volume(
    question: VolumeQuestion,
    view: CaseView,
    found: Tensor,
    method: VolumeMethod,
    at_random: RandomOrders,
    rng: np.random.Generator,
) -> list[ExplanationCheck]:
    """Return the four tests of a map `found` (S, D, H, W)."""
    name, target = question.task.name, question.target
    own = curves(question, order_by_map(found, question, rng))
    deletion, insertion = float(own.deletion[name][target]), float(own.insertion[name][target])
    chance_deletion, chance_insertion = at_random.deletion(name, target), at_random.insertion(name, target)
    shuffled = likeness_when_shuffled(question, view, found, method)
    repeated = likeness_when_noisy(question, view, found, method)
    return [
        ExplanationCheck(
            name="volume deletion",
            value=deletion,
            reference=chance_deletion,
            is_passed=chance_deletion - deletion >= NOTICEABLE,
            sentence="While what the heatmap marks most is taken away step by step, the probability is "
            f"{deletion:.3f} on average; in random order it is {chance_deletion:.3f} (lower is better).",
        ),
        ExplanationCheck(
            name="volume insertion",
            value=insertion,
            reference=chance_insertion,
            is_passed=insertion - chance_insertion >= NOTICEABLE,
            sentence="While what the heatmap marks most is put back into a blank head step by step, the probability is "
            f"{insertion:.3f} on average; in random order it is {chance_insertion:.3f} (higher is better).",
        ),
        ExplanationCheck(
            name="weights randomisation",
            value=shuffled,
            reference=DIES_BELOW,
            is_passed=shuffled < DIES_BELOW,
            sentence=f"With the model's weights shuffled the heatmap's rank correlation with this one is "
            f"{shuffled:.2f}; from {DIES_BELOW} on it would not depend on what was learned.",
        ),
        ExplanationCheck(
            name="repeatability",
            value=repeated,
            reference=REPEATS_FROM,
            is_passed=repeated >= REPEATS_FROM,
            sentence=f"With a little noise on the volume the heatmap's rank correlation with this one is "
            f"{repeated:.2f}; below {REPEATS_FROM} it could not be relied on.",
        ),
    ]


@dataclass(frozen=True, slots=True)
class Changed:
    """A case as another model sees it, or another volume as the same model does."""

    reader: CaseReader
    view: CaseView


def likeness_when_shuffled(question: VolumeQuestion, view: CaseView, found: Tensor, method: VolumeMethod) -> float:
    """Rank correlation of a map with that of the same model, the numbers of every tensor of weights in random order."""
    reader = question.reader
    other = CaseReader(shuffled_model(reader.model), reader.text_encoder, reader.graph)
    return _likeness(question, seen_again(other, view, question, question.volume), found, method)


def likeness_when_noisy(question: VolumeQuestion, view: CaseView, found: Tensor, method: VolumeMethod) -> float:
    """Rank correlation of a map with that of the volume with noise in the head."""
    return _likeness(question, seen_again(question.reader, view, question, noisy(question)), found, method)


def noisy(question: VolumeQuestion) -> Float[Tensor, "1 C D H W"]:
    """The volume with a little Gaussian noise in the head, always the same."""
    generator = torch.Generator().manual_seed(0)
    noise = NOISE * torch.randn(question.volume.shape, generator=generator).to(question.volume.device)
    return question.volume + noise * question.head() * question.present[..., None, None, None]


def seen_again(reader: CaseReader, view: CaseView, question: VolumeQuestion, volume: Tensor) -> Changed:
    """The case with what a trunk sees in a volume; report, record and subgraph stay."""
    assert view.prepared is not None  # the question was asked about a volume
    with torch.no_grad():
        seen = look(reader.model.trunk, volume, question.present)
        summary = summarise(seen, volume, question.present)
    changed = replace(
        view,
        seen=seen,
        features=replace(view.features, summary=summary),
        prepared=replace(view.prepared, array=volume[0].cpu().numpy()),
    )
    return Changed(reader, changed)


def shuffled_model(model: MultimodalModel, seed: int = 0) -> MultimodalModel:
    """A copy of a model in which only what was learned is lost: each tensor of weights keeps its numbers, reordered."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in other.parameters():
            order = torch.randperm(value.numel(), generator=generator)
            value.copy_(value.flatten()[order.to(value.device)].reshape(value.shape))
    return other


def _likeness(question: VolumeQuestion, changed: Changed, found: Tensor, method: VolumeMethod) -> float:
    again = volume_map(changed.reader, changed.view, question.task, question.target, method)
    return 0.0 if again is None else likeness(found, again, question.head())
