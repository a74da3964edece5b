"""Training: augmentation keeps the answer, the trunk learns where, the heads learn what, calibration is honest."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from medmm.config import Calibration, Labels
from medmm.encoders.slice_unet import SliceUNet
from medmm.encoders.volume import VolumeSummary, summary_widths
from medmm.errors import MedmmError
from medmm.inputs import CaseFeatures, CaseReader
from pipelines.statistics.masks import dice
from pipelines.training import trainer
from pipelines.training.augment import Augmentation, augment_stacks
from pipelines.training.what import WhatSettings, calibrate, fit_locations, predict_logits, train_what
from pipelines.training.where import WhereSettings, region_probabilities, train_where

QUICK = WhatSettings(epochs=40, batch_size=16, learning_rate=1e-2)
LEFT, RIGHT = 0, 1


def blobs(n: int) -> tuple[Tensor, Tensor]:
    """Stacks (N, 3, 2, 32, 32) of dark heads with a bright square off centre, and its mask."""
    stacks, regions = torch.full((n, 3, 2, 32, 32), -1.0), torch.zeros(n, 1, 32, 32)
    stacks[..., 12:17, 8:14] = 6.0
    regions[..., 12:17, 8:14] = 1
    return stacks, regions


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_bright_blob_stays_under_its_mask_for_all_seeds(seed: int) -> None:
    stacks, regions = blobs(4)
    present = torch.ones(4, 2, dtype=torch.bool)

    moved, masks, _ = augment_stacks(
        stacks, regions, present, Augmentation(noise=0.0), torch.Generator().manual_seed(seed)
    )

    for image, mask in zip(moved[:, 1, 0].numpy(), masks[:, 0].numpy(), strict=True):
        bright = image > (image.min() + image.max()) / 2
        shift = np.subtract(ndimage.center_of_mass(bright), ndimage.center_of_mass(mask))
        assert np.abs(shift).max() <= 0.75


def test_neighbouring_slices_move_together() -> None:
    stacks, regions = blobs(3)

    moved, _, _ = augment_stacks(
        stacks, regions, torch.ones(3, 2, dtype=torch.bool), Augmentation(noise=0.0), torch.Generator().manual_seed(0)
    )

    torch.testing.assert_close(moved[:, 0], moved[:, 2])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), given_sequences=st.lists(st.booleans(), min_size=3, max_size=3).filter(any))
def test_never_are_all_sequences_hidden_for_all_seeds(seed: int, given_sequences: list[bool]) -> None:
    present = torch.tensor([given_sequences] * 8)

    _, _, left = augment_stacks(
        torch.randn(8, 3, 3, 16, 16),
        torch.zeros(8, 1, 16, 16),
        present,
        Augmentation(drop_sequence=(0.9, 0.9, 0.9)),
        torch.Generator().manual_seed(seed),
    )

    assert left.any(dim=1).all()
    assert not (left & ~present).any()


def test_a_hidden_sequence_is_zero() -> None:
    stacks, regions = blobs(2)

    moved, _, _ = augment_stacks(
        stacks, regions, torch.tensor([[True, False]] * 2), Augmentation(), torch.Generator().manual_seed(0)
    )

    assert not moved[:, :, 1].any()
    assert moved[:, :, 0].any()


@pytest.fixture(scope="module")
def trunk() -> SliceUNet:
    return tiny.train_tiny_trunk([tiny.build_phantom(seed) for seed in range(3)], epochs=8)


def test_the_trunk_finds_the_balls_of_its_three_phantoms(trunk: SliceUNet) -> None:
    scores = [
        dice(region_probabilities(trunk, example) > 0.5, example.regions)
        for example in tiny.build_examples([tiny.build_phantom(seed) for seed in range(3)])
    ]

    assert min(scores) > 0.5


def test_the_same_seed_gives_the_same_trunk() -> None:
    examples = tiny.build_examples([tiny.build_phantom()])
    quick = WhereSettings(widths=tiny.WIDTHS, epochs=1, slices_per_case=2, batch_size=2, precision="32-true")

    first, second = (train_where(examples, quick).trunk.state_dict() for _ in range(2))

    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_fewer_slices_than_a_batch_still_train() -> None:
    settings_of_few = WhereSettings(widths=tiny.WIDTHS, epochs=1, slices_per_case=2, batch_size=64, precision="32-true")

    trunk = train_where(tiny.build_examples([tiny.build_phantom()]), settings_of_few).trunk

    assert all(value.isfinite().all() for value in trunk.state_dict().values())


@pytest.mark.parametrize(("is_fast", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_automatic_precision_is_bfloat16_only_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool, expected: str
) -> None:
    monkeypatch.setattr(trainer, "is_bfloat16_fast", lambda device: is_fast)

    assert trainer.resolve_precision("auto", "cpu") == expected
    assert trainer.resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"


def test_two_empty_masks_overlap_wholly() -> None:
    assert dice(np.zeros(4), np.zeros(4)) == 1


def lesion(is_left: bool, is_bright: bool, n_features: int, rng: np.random.Generator) -> VolumeSummary:
    """The summary of a volume with one found lesion, as the trunk would give it."""
    lesion_width, slice_width = summary_widths(n_features, len(tiny.ROLES))
    vector = 0.1 * rng.standard_normal((1, lesion_width))
    position = 0.1 * rng.standard_normal((1, 7))
    position[0, 0] += -0.5 if is_left else 0.5
    vector[0, n_features : n_features + 7] = position
    vector[0, n_features + 8] += 3.0 if is_bright else 0.0
    tensors = (vector, 0.1 * rng.standard_normal((1, 4, slice_width)), np.ones((1, 4)), position, np.ones(1))
    lesion_, slices, mask, place, found = (torch.from_numpy(value).float() for value in tensors)
    return VolumeSummary(lesion_, slices, mask.bool(), place, found.bool())


def cohort(n: int, seed: int) -> tuple[list[CaseFeatures], dict[str, np.ndarray]]:
    """Cases whose kind is how bright the lesion is; the grade is known of every second one and not in the data."""
    rng = np.random.default_rng(seed)
    n_features = tiny.WIDTHS[4] + tiny.WIDTHS[2]
    is_left, is_bright = rng.random(n) < 0.5, rng.random(n) < 0.5
    features = [
        CaseFeatures(summary=lesion(left, bright, n_features, rng), record=(float(rng.normal()), float("nan")))
        for left, bright in zip(is_left, is_bright, strict=True)
    ]
    grade = np.where(np.arange(n) % 2, rng.integers(0, 3, n), -1)
    return features, {"kind": np.where(is_bright, 0, 1), "grade": grade, "side": np.where(is_left, LEFT, RIGHT)}


def new_reader() -> CaseReader:
    return CaseReader(tiny.build_model(tiny.build_config()), None, None)


@pytest.fixture(scope="module")
def trained() -> CaseReader:
    reader = new_reader()
    features, targets = cohort(80, 0)
    fit_locations(reader.model, features, targets)
    train_what(reader, features, targets, QUICK)
    return reader


@pytest.mark.parametrize("task", ["kind", "side"])
def test_what_can_be_seen_is_learned(trained: CaseReader, task: str) -> None:
    features, targets = cohort(60, 1)

    logits = predict_logits(trained, features)[task]

    assert (logits.argmax(axis=1) == targets[task]).mean() > 0.85


def test_the_trunk_is_left_as_it_was(trained: CaseReader) -> None:
    before = new_reader().model.trunk.state_dict()

    assert all(torch.equal(value, before[name]) for name, value in trained.model.trunk.state_dict().items())


def test_training_leaves_the_model_ready_to_answer(trained: CaseReader) -> None:
    assert not trained.model.training


def test_leaving_out_the_volume_leaves_nothing_to_see(trained: CaseReader) -> None:
    features, targets = cohort(60, 1)

    logits = predict_logits(trained, features, (False, True, True, True))["kind"]

    assert (logits.argmax(axis=1) == targets["kind"]).mean() < 0.75


def test_the_same_seed_gives_the_same_heads() -> None:
    features, targets = cohort(10, 0)
    states = []
    for _ in range(2):
        reader = new_reader()
        train_what(reader, features, targets, replace(QUICK, epochs=2))
        states.append(reader.model.state_dict())

    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_place_that_training_never_saw_is_never_named() -> None:
    side = tiny.SIDE.model_copy(update={"classes": (*tiny.SIDE.classes, tiny.KIND.classes[2])})
    labels = Labels(tasks=(tiny.KIND, tiny.GRADE, side))
    reader = CaseReader(tiny.build_model(tiny.build_config(), labels), None, None)
    features, targets = cohort(20, 0)

    fit_locations(reader.model, features, targets)

    assert predict_logits(reader, features)["side"].argmax(axis=1).max() < 2


def test_a_place_of_one_kind_only_cannot_be_learned() -> None:
    features, targets = cohort(6, 0)

    with pytest.raises(MedmmError, match="at least two places of side") as caught:
        fit_locations(new_reader().model, features, targets | {"side": np.zeros(6, int)})

    assert caught.value.code == "model.mismatch"


def held_out(n: int = 400) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits that are three times too sure, and the classes that the honest ones give."""
    rng = np.random.default_rng(0)
    logits, targets = {}, {}
    for task in tiny.LABELS.tasks:
        honest = 1.5 * rng.standard_normal((n, len(task.classes)))
        chances = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
        targets[task.name] = np.array([rng.choice(len(row), p=row) for row in chances])
        logits[task.name] = 3 * honest
    return logits, targets


def test_calibration_cools_what_is_too_sure() -> None:
    calibrated = calibrate(tiny.LABELS, *held_out())

    assert [task.calibration.temperature for task in calibrated.tasks] == pytest.approx([3, 3, 3], rel=0.3)


def test_calibration_leaves_out_cases_with_an_unknown_label() -> None:
    logits, targets = held_out(40)
    targets["kind"][10:] = -1

    calibrated = calibrate(tiny.LABELS, logits, targets)

    assert [task.calibration.n for task in calibrated.tasks] == [10, 40, 40]


def test_calibration_keeps_questions_and_coverage() -> None:
    asked = tiny.KIND.model_copy(update={"calibration": Calibration(coverage=0.8)})
    logits, targets = held_out(40)

    task = calibrate(Labels(tasks=(asked,)), logits, targets).tasks[0]

    assert task.calibration.coverage == 0.8
    assert task.model_copy(update={"calibration": asked.calibration}) == asked


def test_without_held_out_labels_nothing_is_calibrated() -> None:
    logits, targets = held_out(5)

    unknown = {name: np.full(5, -1) for name in targets}

    assert {task.calibration for task in calibrate(tiny.LABELS, logits, unknown).tasks} == {Calibration()}
