"""Objectives besides labels that a recipe switches on by name, under `[training.objectives.<name>]`."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from medmm.config import MODALITIES
from medmm.errors import UsageError
from medmm.fusion.base import Fused
from medmm.model import ModelInputs, MultimodalModel
from medmm.objectives.adversarial import embedding_noise, fgsm, pgd
from medmm.objectives.autoencoder import CrossModalAutoencoder, MultimodalDecoder, hide_patches
from medmm.objectives.contrastive import joint_loss
from pipelines.training.images import ImageBatch

Weight = Annotated[float, Field(gt=0, le=100)]
TEXT = MODALITIES.index("text")
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Contrastive:
    """Bring the modalities of a case together in the joint space (`joint_width` under `[model]`)."""

    weight: Weight = 0.1
    loss: Literal["infonce", "margin"] = "infonce"
    margin: Annotated[float, Field(gt=0, le=2)] = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Autoencoder:
    """Tell all modalities from the fused case, also those that modality dropout hid."""

    weight: Weight = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class CrossModal:
    """Give an image back from a copy with hidden patches and the case's text; trains the image network."""

    weight: Weight = 0.1
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Adversarial:
    """Learn from images changed by at most `size` (in deviations of the prepared image) so that they hurt most."""

    weight: Weight = 0.5
    method: Literal["fgsm", "pgd"] = "fgsm"
    size: Annotated[float, Field(gt=0, le=1)] = 0.02
    steps: Annotated[int, Field(ge=1, le=50)] = 3


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class TextNoise:
    """Learn from sentence vectors changed by a share `size` of their length so that it hurts most."""

    weight: Weight = 0.5
    size: Annotated[float, Field(gt=0, le=1)] = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class MaskedLanguage:
    """Adapt the last layers of the text encoder to the reports to learn from, before anything else is learned."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    layers: Annotated[int, Field(ge=1)] = 2


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class PseudoLabels:
    """Learn again, cases without a label having that which the first round is sure of."""

    min_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    max_a_class: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Ensemble:
    """So many models of other seeds; their probabilities are averaged."""

    members: Annotated[int, Field(ge=2, le=50)] = 5


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Objectives:
    """Those that are switched on."""

    contrastive: Contrastive | None = None
    autoencoder: Autoencoder | None = None
    cross_modal_autoencoder: CrossModal | None = None
    adversarial: Adversarial | None = None
    text_noise: TextNoise | None = None
    masked_language: MaskedLanguage | None = None
    pseudo_labels: PseudoLabels | None = None
    ensemble: Ensemble | None = None


class ObjectiveLosses(nn.Module):
    """What the objectives add to the loss of a batch, with what they learn that is no part of the model."""

    def __init__(self, objectives: Objectives, model: MultimodalModel) -> None:
        super().__init__()
        if objectives.contrastive is not None and model.config.joint_width is None:
            raise UsageError(
                "Expected a model with a joint space for the contrastive objective (joint_width is not set).",
                code="config.key",
            )
        self.objectives = objectives
        self.decoder = (
            MultimodalDecoder(modality_widths(model), model.config.width)
            if objectives.autoencoder is not None
            else None
        )
        self.images = (
            CrossModalAutoencoder(
                model.image_network.width, modality_widths(model)[1], len(images.preprocessing.size_pixels)
            )
            if objectives.cross_modal_autoencoder is not None and (images := model.config.images) is not None
            else None
        )

    def forward(
        self, model: MultimodalModel, inputs: ModelInputs, was_present: Bool[Tensor, "B M"], fused: Fused
    ) -> Float[Tensor, ""]:
        """Weighted sum; `was_present` says what the cases have, before any of it was hidden."""
        total = fused.case.new_zeros(())
        if (contrastive := self.objectives.contrastive) is not None:
            margin = contrastive.margin if contrastive.loss == "margin" else None
            together = joint_loss(model.joint(fused.own), inputs.present, model.joint, margin)
            total = total + contrastive.weight * together
        if self.objectives.autoencoder is not None and self.decoder is not None:
            vectors = modality_vectors(model, inputs)
            total = total + self.objectives.autoencoder.weight * self.decoder.loss(fused.case, vectors, was_present)
        return total

    def on_text(self, inputs: ModelInputs, loss: Callable[[Tensor], Tensor]) -> Tensor | None:
        """The loss of text changed so that it hurts, weighted; `loss` is a function of the sentence vectors."""
        noise = self.objectives.text_noise
        if noise is None or inputs.text is None:
            return None
        return noise.weight * loss(embedding_noise(inputs.text, loss, noise.size))

    def on_images(
        self, model: MultimodalModel, inputs: ModelInputs, batch: ImageBatch, generator: torch.Generator
    ) -> Tensor | None:
        """How badly images are given back from copies with hidden patches and the case's text, weighted."""
        spec = self.objectives.cross_modal_autoencoder
        if spec is None or self.images is None:
            return None
        device = inputs.present.device
        flat = batch.array.flatten(0, -3)[:, None]  # slice by slice
        damaged = hide_patches(flat, spec.hidden, generator).reshape(batch.array.shape).to(device)
        maps = model.image_network(damaged).float()
        text = modality_vectors(model, inputs)[1][batch.case]
        told = self.images(maps, text, inputs.present[batch.case, TEXT])
        return spec.weight * functional.mse_loss(told, self.images.truth(batch.array.to(device), maps))


def loss_of_hurt_pixels(
    settings: Adversarial | None, pixels: Tensor, loss: Callable[[Tensor], Tensor]
) -> Tensor | None:
    """The weighted loss of images changed so that it hurts; `loss` takes the images. None where it is switched off."""
    if settings is None:
        return None
    if settings.method == "fgsm":
        changed = fgsm(pixels, loss, settings.size)
    else:
        changed = pgd(pixels, loss, settings.size, n_steps=settings.steps)
    return settings.weight * loss(changed.detach())


def modality_widths(model: MultimodalModel) -> tuple[int, ...]:
    """Widths of the vectors that `modality_vectors` gives, 0 for a modality that the model does not read."""
    config = model.config
    volume = len(model.volume_tokens.standard_lesion.mean) if config.volume is not None else 0
    if config.images is not None:
        volume = model.image_network.width
    text = config.text.width if config.text is not None else 0
    graph = model.graph_encoder.enter.in_features if config.graph is not None else 0
    return (volume, text, len(config.record), graph)


@torch.no_grad()
def modality_vectors(model: MultimodalModel, inputs: ModelInputs) -> tuple[Float[Tensor, "B _"], ...]:
    """Return what came in, one vector a modality, standardised where the model standardises.

    In the order of `MODALITIES`: the lesion or mean image, the mean sentence, the record with 0 where a value is
    missing, the mean concept; zeros for what no case of the batch has.
    """
    count, device = inputs.present.shape[0], inputs.present.device
    found = [torch.zeros(count, width, device=device) for width in modality_widths(model)]
    if inputs.volume is not None:
        found[0] = model.volume_tokens.standard_lesion(inputs.volume.lesion)
    elif inputs.images is not None:
        found[0] = _mean(model.image_tokens.standard(inputs.images.values), inputs.images.mask)
    if inputs.text is not None and inputs.text_mask is not None:
        found[1] = _mean(model.text_tokens.standard(inputs.text), inputs.text_mask)
    if inputs.record is not None:
        found[2] = inputs.record.nan_to_num(0.0)
    if inputs.graph is not None:
        sizes = torch.bincount(inputs.graph.case, minlength=count).clamp_min(1)[:, None]
        found[3] = found[3].index_add(0, inputs.graph.case, inputs.graph.nodes) / sizes
    return tuple(found)


def _mean(values: Float[Tensor, "B N F"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B F"]:
    shown = values.masked_fill(~mask[..., None], 0.0)
    return shown.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)
