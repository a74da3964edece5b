"""An image network trained by a recipe: it learns what only images show, exactly so after a kill."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from test_training_resume import KilledError, assert_same, kill_at
from training_builders import write_cases, write_recipe

import medmm
from medmm.config import ImagesSpec, Labels, ModelConfig
from medmm.encoders.images import ImageTokens
from medmm.encoders.tokens import Tokens
from medmm.errors import UsageError
from medmm.inputs import CaseFeatures, CaseReader
from medmm.preprocess_images import ImagePreprocessing
from pipelines.evaluation.predictions import read_predictions
from pipelines.training.images import ImageAugmentation, ImageBatch, ImageFeed, ImageSettings, build_augmentation, look
from pipelines.training.recipe import read_recipe
from pipelines.training.run import TrainJob, train
from pipelines.training.trainer import Watch
from pipelines.training.what import WhatSettings, settle_images, train_what

RECIPE = """
name = "tiny-images"
logger = "none"
[model]
width = 8
record = ["age_years"]
[model.images]
network = "resnet10"
preprocessing = { size_pixels = [32, 32], slices_per_series = 2 }
[[tasks]]
name = "side"
classes = ["left", "right"]
[validation]
folds = 2
[leaks]
allow = ["image"]
[training.what]
epochs = 12
batch_size = 4
learning_rate = 1e-2
[training.images]
learning_rate = 2e-3
precision = "32-true"
"""
SIDE = tiny.SIDE.model_copy(update={"source": "fusion"})
SIZE = (16, 16)
QUICK = WhatSettings(epochs=3, batch_size=4, learning_rate=1e-2, modality_dropout=0.0)


def build_reader() -> CaseReader:
    images = ImagesSpec(network="resnet10", preprocessing=ImagePreprocessing(size_pixels=SIZE))
    config = ModelConfig(name="images", version="0.1.0", width=tiny.WIDTH, images=images, record=(tiny.AGE, tiny.SEX))
    return CaseReader(tiny.build_model(config, Labels(tasks=(SIDE,))), None, None)


def build_feed(n: int = 8, augmentation: ImageAugmentation | None = None) -> ImageFeed:
    """Pictures with a bright patch on the left or the right; the last case has none."""
    rng = np.random.default_rng(0)
    pixels: list[np.ndarray | None] = []
    for index in range(n):
        array = rng.normal(0, 0.1, (1 + index % 2, 1, *SIZE)).astype(np.float16)
        array[..., 4:10, 2 + 8 * (index % 2) : 6 + 8 * (index % 2)] += 2
        pixels.append(array)
    pixels[-1] = None
    settings = ImageSettings(precision="32-true", augmentation=augmentation or ImageAugmentation())
    return ImageFeed(pixels, settings, seed=0)


def images(feed: ImageFeed, rows: list[int], epoch: int | None = None) -> ImageBatch:
    batch = feed.batch(rows, epoch)
    assert batch is not None
    return batch


def cohort(reader: CaseReader, feed: ImageFeed) -> tuple[list[CaseFeatures], dict[str, np.ndarray]]:
    n = len(feed.pixels)
    features = feed.see_again(reader, [CaseFeatures(record=(0.0, 0.0))] * n)
    return features, {"side": np.arange(n) % 2}


@pytest.mark.slow
@pytest.mark.parametrize("size", ["[32, 32], slices_per_series = 2", "[8, 32, 32]"])
def test_a_recipe_learns_a_label_that_only_the_images_show(size: str, tmp_path: Path) -> None:
    write_cases(tmp_path, 16)
    recipe = RECIPE.replace("[32, 32], slices_per_series = 2", size)
    job = TrainJob(recipe=write_recipe(tmp_path, recipe), output=tmp_path / "model", n_resamples=20)

    metrics = train(job).metrics

    assert metrics["side"]["auroc"].value > 0.9
    diagnoser = medmm.load_model(str(job.output), device="cpu")
    case = tiny.build_case(99, text=None, is_left=True)
    diagnosis = diagnoser.diagnose(case)
    assert diagnosis.tasks["side"].prediction == "left"
    assert diagnoser.explain(case, diagnosis).tasks["side"].volumes
    assert len(read_predictions(job.work_folder / "predictions.csv")["side"].by_case) == 16


def test_the_network_learns_only_where_it_is_asked_to() -> None:
    reader, feed = build_reader(), build_feed()
    before = {name: value.clone() for name, value in reader.model.image_network.named_parameters()}
    features, targets = cohort(reader, feed)

    train_what(reader, features, targets, QUICK)
    assert all(torch.equal(value, before[name]) for name, value in reader.model.image_network.named_parameters())

    train_what(reader, features, targets, QUICK, images=feed)
    assert not any(torch.equal(value, before[name]) for name, value in reader.model.image_network.named_parameters())


@pytest.mark.bad_input("H1")
def test_a_network_whose_training_was_killed_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(watch: Watch | None = None) -> dict[str, torch.Tensor]:
        reader, feed = build_reader(), build_feed()
        features, targets = cohort(reader, feed)
        train_what(reader, features, targets, QUICK, images=feed, watch=watch)
        return reader.model.state_dict()

    whole, watch = state(), Watch(checkpoints=tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(3, patch)
        state(watch)

    assert_same(whole, state(watch))


def test_images_of_a_case_are_changed_anew_every_epoch_and_alike_again() -> None:
    feed = build_feed()

    first, second, again = (images(feed, [0, 1], epoch) for epoch in (0, 1, 0))

    torch.testing.assert_close(first.array, again.array)
    assert not torch.allclose(first.array, second.array)


def test_cases_without_images_have_no_token() -> None:
    reader, feed = build_reader(), build_feed()

    seen = look(reader.model, images(feed, [0, 1, 7]))

    assert seen.mask.tolist() == [[True, False], [True, True], [False, False]]
    assert feed.batch([7]) is None


def test_in_training_the_network_sees_what_it_sees_in_a_diagnosis() -> None:
    reader, feed = build_reader(), build_feed()
    features = feed.see_again(reader, [CaseFeatures()] * 8)

    with torch.no_grad():
        seen = look(reader.model, images(feed, [1]))

    torch.testing.assert_close(seen.values[0], features[1].images)


@pytest.mark.parametrize("size", [(16, 24), (4, 16, 24)])
def test_mirroring_swaps_left_and_right_only(size: tuple[int, ...]) -> None:
    still = ImageAugmentation(rotation_deg=0, scale=0, shift=0, intensity=0, noise=0, mirror=0.999)
    image = torch.arange(float(np.prod(size))).reshape(1, *size)

    turned = build_augmentation(still, size).set_random_state(seed=0)(image)

    torch.testing.assert_close(torch.as_tensor(np.asarray(turned)), image.flip(-1), atol=1e-3, rtol=1e-4)


def test_slices_are_not_mixed_by_augmentation_of_series() -> None:
    image = torch.zeros(1, 4, 16, 16)
    image[:, 2] = 1

    turned = build_augmentation(ImageAugmentation(noise=0.0), (4, 16, 16)).set_random_state(seed=0)(image)

    values = torch.as_tensor(np.asarray(turned))
    assert float(values[0, [0, 1, 3]].abs().max()) < 1e-3
    assert float(values[0, 2].min()) > 0.5


def test_tokens_are_the_same_after_centring() -> None:
    torch.manual_seed(0)
    tokens = ImageTokens(5, 8).eval()
    vectors = torch.rand(20, 1, 5)
    batch = Tokens(vectors, torch.ones(20, 1, dtype=torch.bool))
    before = tokens(batch).values

    tokens.centre(vectors[:, 0])

    torch.testing.assert_close(tokens(batch).values, before)
    torch.testing.assert_close(tokens.standard(vectors[:, 0]).mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)


def test_distances_are_from_what_the_trained_network_sees() -> None:
    reader, feed = build_reader(), build_feed()
    features, targets = cohort(reader, feed)
    train_what(reader, features, targets, replace(QUICK, epochs=6), images=feed)

    settle_images(reader, feed.see_again(reader, features))

    seen = [item.images.mean(dim=0) for item in feed.see_again(reader, features) if item.images is not None]
    assert float(reader.model.ood(torch.stack(seen)).max()) <= float(reader.model.ood.threshold) + 1e-3


@pytest.mark.bad_input("G5")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[training.images]", "[training.imagse]", "no key 'training.imagse'"),
        ("learning_rate = 2e-3", "rate = 2e-3", "no key 'training.images.rate'"),
        ("[validation]", "[search]\ntrials = 2\n[validation]", "a search needs features that stay"),
        ('network = "resnet10"', 'network = "resnet11"', "resnet10"),
    ],
)
def test_a_bad_image_section_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_recipe(write_recipe(tmp_path, RECIPE.replace(old, new)))


def test_training_images_without_an_image_network_is_refused(tmp_path: Path) -> None:
    text = RECIPE.replace("[model.images]", "").replace('network = "resnet10"', "")
    text = text.replace("preprocessing = { size_pixels = [32, 32], slices_per_series = 2 }", "")

    with pytest.raises(UsageError, match=r"needs an image network: \[model.images\]"):
        read_recipe(write_recipe(tmp_path, text))
