"""Objectives besides labels, switched on by a recipe: each by name, each with an effect, a bad one named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch
from test_train_images import RECIPE as IMAGE_RECIPE
from test_train_images import build_feed, build_reader
from test_train_images import cohort as image_cohort
from test_training import cohort
from training_builders import RECIPE, write_cases, write_recipe

from medmm.config import ImagesSpec, Labels, ModelConfig, TextSpec
from medmm.diagnose import MEMBERS, load_model
from medmm.encoders.text import TextEncoder
from medmm.errors import UsageError
from medmm.heads import pooled_logits, probabilities
from medmm.inputs import CaseFeatures, CaseReader
from medmm.preprocess_images import ImagePreprocessing
from pipelines.training.fit import pseudo_targets
from pipelines.training.objectives import (
    Adversarial,
    Autoencoder,
    Contrastive,
    CrossModal,
    MaskedLanguage,
    Objectives,
    PseudoLabels,
    TextNoise,
    loss_of_hurt_pixels,
)
from pipelines.training.recipe import read_recipe
from pipelines.training.run import TrainJob, train
from pipelines.training.text import adapt_text_encoder
from pipelines.training.what import WhatSettings, train_what
from pipelines.training.where import WhereSettings, train_where

QUICK = WhatSettings(epochs=2, batch_size=4, learning_rate=1e-2)
LABELS = Labels(tasks=(tiny.KIND, tiny.GRADE))
SIDE = tiny.SIDE.model_copy(update={"source": "fusion"})
TEXT_RECIPE = IMAGE_RECIPE.replace("[[tasks]]", '[model.text]\nsource = "minilm"\n[[tasks]]', 1)


def text_reader() -> CaseReader:
    """Text vectors of width 4 and a record, with a joint space."""
    config = ModelConfig(
        name="texts", version="0.1.0", width=tiny.WIDTH, joint_width=4, record=(tiny.AGE, tiny.SEX),
        text=TextSpec(source="minilm", width=4),
    )  # fmt: skip
    return CaseReader(tiny.build_model(config, LABELS), None, None)


def text_cohort(n: int = 12) -> tuple[list[CaseFeatures], dict[str, np.ndarray]]:
    generator = torch.Generator().manual_seed(0)
    features = [
        CaseFeatures(text=torch.randn(1 + row % 2, 4, generator=generator), record=(row / n, float(row % 2)))
        for row in range(n)
    ]
    return features, {"kind": np.arange(n) % 3, "grade": np.full(n, -1)}


def state_after(objectives: Objectives) -> dict[str, torch.Tensor]:
    reader = text_reader()
    features, targets = text_cohort()
    train_what(reader, features, targets, QUICK, objectives=objectives)
    return reader.model.state_dict()


@pytest.mark.parametrize(
    "objectives",
    [
        Objectives(contrastive=Contrastive(weight=1.0)),
        Objectives(contrastive=Contrastive(weight=1.0, loss="margin")),
        Objectives(autoencoder=Autoencoder(weight=1.0)),
        Objectives(text_noise=TextNoise(size=0.5)),
    ],
    ids=["infonce", "margin", "autoencoder", "text_noise"],
)
def test_an_objective_that_is_switched_on_changes_what_is_learned(objectives: Objectives) -> None:
    without, first, again = state_after(Objectives()), state_after(objectives), state_after(objectives)

    assert any(not torch.equal(value, without[name]) for name, value in first.items())
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert all(value.isfinite().all() for value in first.values() if value.is_floating_point())


@pytest.mark.slow
def test_the_autoencoder_brings_what_is_hidden_into_the_case() -> None:
    def error(weight: float) -> float:
        """How badly a linear map tells the record from the case of the text alone, on the training cases."""
        reader = text_reader()
        features, targets = text_cohort(40)
        features = [replace(item, text=torch.full((1, 4), item.record[0])) for item in features]  # type: ignore[index]  # it is there
        nothing = {name: np.full(40, -1) for name in targets}
        on = Objectives(autoencoder=Autoencoder(weight=weight))
        torch.manual_seed(0)
        train_what(reader, features, nothing, replace(QUICK, epochs=30, modality_dropout=0.4), objectives=on)
        from medmm.inputs import collate

        inputs = collate(features, reader)
        with torch.no_grad():
            fused = reader.model(inputs.with_present(inputs.present & torch.tensor([False, True, False, False]))).fused
        design = torch.cat([fused.case, torch.ones(40, 1)], dim=1).numpy()  # type: ignore[union-attr]  # a fusion is there
        wanted = np.array([item.record[0] for item in features])  # type: ignore[index]  # it is there
        told = design @ np.linalg.lstsq(design, wanted, rcond=1e-3)[0]
        return float(np.square(told - wanted).mean() / wanted.var())

    assert error(10.0) < 0.1


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_pixels_are_changed_for_the_worse_and_by_no_more_than_allowed(method: str) -> None:
    seen: list[torch.Tensor] = []

    def loss(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.detach())
        return pixels.square().sum()

    pixels = torch.rand(2, 1, 4, 4) + 0.5
    hurt = loss_of_hurt_pixels(Adversarial(method=method, size=0.1, weight=1.0), pixels, loss)  # type: ignore[arg-type]  # a name

    assert hurt is not None
    assert float(hurt) > float(pixels.square().sum())
    assert float((seen[-1] - pixels).abs().max()) <= 0.1 + 1e-6
    assert loss_of_hurt_pixels(None, pixels, loss) is None


@pytest.mark.parametrize("name", ["adversarial", "cross_modal_autoencoder"])
def test_the_image_network_learns_from_objectives_on_pixels(name: str) -> None:
    on = {"adversarial": Adversarial(method="pgd", steps=2), "cross_modal_autoencoder": CrossModal()}

    def state(objectives: Objectives) -> torch.Tensor:
        reader, feed = build_reader(), build_feed()
        features, targets = image_cohort(reader, feed)
        if name == "cross_modal_autoencoder":
            images = ImagesSpec(network="resnet10", preprocessing=ImagePreprocessing(size_pixels=(16, 16)))
            config = ModelConfig(
                name="both", version="0.1.0", width=tiny.WIDTH, images=images, text=TextSpec(source="minilm", width=4)
            )
            reader = CaseReader(tiny.build_model(config, Labels(tasks=(SIDE,))), None, None)
            features = [replace(item, record=None, text=torch.ones(1, 4)) for item in features]
            targets = {"side": np.full(len(features), -1)}  # no label: only the pictures teach
        train_what(reader, features, targets, QUICK, objectives=objectives, images=feed)
        return next(reader.model.image_network.parameters()).detach()

    assert not torch.equal(state(Objectives()), state(Objectives(**{name: on[name]})))


def test_the_trunk_learns_from_hurt_slices() -> None:
    examples = tiny.build_examples([tiny.build_phantom()])
    quick = WhereSettings(widths=tiny.WIDTHS, epochs=1, slices_per_case=2, batch_size=2, precision="32-true")

    plain, hurt = (
        train_where(examples, quick, adversarial=adversarial).trunk.state_dict()
        for adversarial in (None, Adversarial(size=0.5))
    )

    assert any(not torch.equal(value, hurt[name]) for name, value in plain.items())


def test_labels_are_guessed_only_where_there_is_none_and_the_model_is_sure() -> None:
    features, targets = cohort(20, 0)
    reader = CaseReader(tiny.build_model(tiny.build_config()), None, None)
    train_what(reader, features, targets, WhatSettings(epochs=40, batch_size=8, learning_rate=1e-2))
    half = {name: values.copy() for name, values in targets.items()}
    half["kind"][::2] = -1

    sure = pseudo_targets(reader, features, half, PseudoLabels(min_confidence=0.5), stop=[0])
    silent = pseudo_targets(reader, features, half, PseudoLabels(min_confidence=0.999999), stop=[0])

    assert (sure["kind"][1::2] == targets["kind"][1::2]).all()
    assert sure["kind"][0] == -1
    assert (sure["kind"][2::2] == targets["kind"][2::2]).mean() > 0.7
    assert (silent["kind"][::2] == -1).all()


def test_a_text_encoder_is_adapted_in_its_last_layers_alone(tmp_path: Path) -> None:
    encoder = TextEncoder(str(tiny.write_tiny_bert(tmp_path)), 64)
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    settings = MaskedLanguage(epochs=3, learning_rate=1e-2, layers=1)

    first, again = (adapt_text_encoder(encoder, [tiny.REPORT] * 4, settings, seed=0) for _ in range(2))

    after = first.network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("embeddings") for name in changed)
    assert all(torch.equal(value, before[name]) for name, value in encoder.network.state_dict().items())
    assert all(torch.equal(value, again.network.state_dict()[name]) for name, value in after.items())


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
def test_pooled_logits_give_the_mean_probability(kind: str) -> None:
    logits = [torch.randn(4, 3) for _ in range(3)]

    pooled = probabilities(pooled_logits(logits, kind), kind)  # type: ignore[arg-type]  # a kind

    mean = torch.stack([probabilities(one, kind) for one in logits]).mean(dim=0)  # type: ignore[arg-type]  # a kind
    torch.testing.assert_close(pooled, mean)
    assert pooled_logits(logits[:1], kind) is logits[0]  # type: ignore[arg-type]  # a kind


@pytest.mark.slow
def test_a_recipe_makes_an_ensemble_that_diagnoses_as_it_was_calibrated(tmp_path: Path) -> None:
    write_cases(tmp_path, 12)
    text = RECIPE.replace(
        "[card]", "[training.objectives.ensemble]\nmembers = 2\n[training.objectives.autoencoder]\n[card]"
    )
    job = TrainJob(recipe=write_recipe(tmp_path, text), output=tmp_path / "model", n_resamples=20)

    train(job)

    diagnoser = load_model(str(job.output), device="cpu")
    assert len(diagnoser.members) == len(list((job.output / MEMBERS).iterdir())) == 1
    case = tiny.build_case(99, text=None, is_left=True)
    together = diagnoser.diagnose(case).tasks["kind"].probabilities
    task = diagnoser.model.labels.task("kind")
    raw = [one.answer(one.view(case)).logits["kind"] for one in (diagnoser, *diagnoser.members)]
    assert not torch.allclose(*raw)
    wanted = probabilities(pooled_logits(raw, task.kind), task.kind, task.calibration.temperature)[0]
    np.testing.assert_allclose(together, wanted, atol=1e-6)


@pytest.mark.bad_input("G5")
@pytest.mark.parametrize(
    ("text", "section", "message"),
    [
        (RECIPE, "contrastiv", "no key 'training.objectives.contrastiv'"),
        (RECIPE, "contrastive]\nweight = -1\n[card", "training.objectives.contrastive.weight is not valid"),
        (RECIPE, 'contrastive]\nloss = "triplet"\n[card', "training.objectives.contrastive.loss is not valid"),
        (RECIPE, "contrastive", "contrastive needs joint_width"),
        (RECIPE, "text_noise", r"text_noise needs \[model.text\]"),
        (RECIPE, "masked_language", r"masked_language needs \[model.text\]"),
        (RECIPE, "cross_modal_autoencoder", r"needs \[training.images\] and \[model.text\]"),
        (RECIPE, "ensemble]\nmembers = 1\n[card", "training.objectives.ensemble.members is not valid"),
    ],
)
def test_a_bad_objective_is_named(text: str, section: str, message: str, tmp_path: Path) -> None:
    bad = text.replace(
        "[card]",
        f"[training.objectives.{section}]\n[card]" if "]" not in section else f"[training.objectives.{section}]",
        1,
    )

    with pytest.raises(UsageError, match=message):
        read_recipe(write_recipe(tmp_path, bad))


def test_every_objective_can_be_switched_on_by_its_name(tmp_path: Path) -> None:
    text = TEXT_RECIPE.replace("width = 8", "width = 8\njoint_width = 8")
    names = list(Objectives.__dataclass_fields__)

    recipe = read_recipe(write_recipe(tmp_path, text + "".join(f"[training.objectives.{name}]\n" for name in names)))

    assert all(getattr(recipe.training.objectives, name) is not None for name in names)
