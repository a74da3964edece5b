"""An image network learned together with fusion and heads: gradients go back to its first layer.

What a frozen network sees of a case is computed once; one that learns looks again at every step, at images that are
changed at random by MONAI's transforms. How depends on (seed, epoch, case) alone, so that a resumed training sees the
same.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Annotated

import numpy as np
import torch
from monai.transforms import Compose, RandAffine, RandFlip, RandGaussianNoise, RandScaleIntensity
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from medmm.encoders.images import pool_maps
from medmm.encoders.tokens import Tokens
from medmm.inputs import CaseFeatures, CaseReader
from medmm.model import MultimodalModel
from pipelines.training.augment import Share
from pipelines.training.trainer import Precision, mixed_seed


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ImageAugmentation:
    """How far images are changed: turned and scaled in the slice, shifted by a share of it, made brighter, noisy.

    `mirror` is the chance of swapping left and right, which no question about sides survives.
    """

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 10.0
    scale: Share = 0.1
    shift: Share = 0.05
    intensity: Share = 0.1
    noise: Annotated[float, Field(ge=0, le=2)] = 0.05
    mirror: Share = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ImageSettings:
    """How the image network is trained, as long as fusion and heads are and in the same batches.

    `learning_rate` is the network's own; precision is that of the whole step.
    """

    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    precision: Precision = "auto"
    augmentation: ImageAugmentation = field(default_factory=ImageAugmentation)


def build_augmentation(settings: ImageAugmentation, size: Sequence[int]) -> Compose:
    """Return MONAI's transforms for images (1, *S) of `size` pixels; series change within their slices only."""
    angle, in_plane = math.radians(settings.rotation_deg), [0.0] * (len(size) - 2)
    return Compose(
        [
            RandAffine(
                prob=1.0,
                rotate_range=(angle, *in_plane, *in_plane),  # in 3D about the first axis, which runs through the slices
                scale_range=(*in_plane, settings.scale, settings.scale),
                translate_range=(*in_plane, settings.shift * size[-2], settings.shift * size[-1]),
                padding_mode="border",
            ),
            RandFlip(prob=settings.mirror, spatial_axis=len(size) - 1),
            RandScaleIntensity(prob=1.0, factors=settings.intensity),
            RandGaussianNoise(prob=1.0, std=settings.noise),
        ]
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ImageBatch:
    """Images (n, 1, *S) of B cases, one case after the other, and how many each has."""

    array: Tensor
    counts: tuple[int, ...]

    @property
    def case(self) -> Tensor:
        """Whose image each is (n,)."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))


def look(model: MultimodalModel, batch: ImageBatch) -> Tokens:
    """Return vectors (B, N, P) of the cases' images; gradients pass where they are on."""
    spec, device = model.config.images, next(model.image_network.parameters()).device
    if spec is None:
        raise ValueError("Expected a model that reads images.")
    maps = model.image_network(batch.array.to(device)).float()
    vectors = [pool_maps(part, spec.grid) for part in maps.split(batch.counts)]
    counts = torch.tensor([len(item) for item in vectors], device=device)
    values = pad_sequence(vectors, batch_first=True)
    return Tokens(values, torch.arange(values.shape[1], device=device)[None] < counts[:, None])


class ImageFeed:
    """The prepared images of N cases, (n, 1, *S) or None for a case without, as the network gets them."""

    def __init__(self, pixels: Sequence[np.ndarray | None], settings: ImageSettings, seed: int) -> None:
        self.pixels = pixels
        self.settings = settings
        self.seed = seed
        shapes = [array.shape[2:] for array in pixels if array is not None]
        self.augmentation = build_augmentation(settings.augmentation, shapes[0]) if shapes else None

    def batch(self, rows: Sequence[int], epoch: int | None = None) -> "ImageBatch | None":
        """Return these cases' images, changed at random in training, as `epoch` says; None where no case has any."""
        cases = [self._images(row, epoch) for row in rows]
        shown = [images for images in cases if images is not None]
        if not shown:
            return None
        return ImageBatch(torch.cat(shown), tuple(0 if images is None else len(images) for images in cases))

    @torch.no_grad()
    def see_again(self, reader: CaseReader, features: Sequence[CaseFeatures]) -> list[CaseFeatures]:
        """Return the cases' features with what the network sees of them by now."""
        seen = []
        for item, array in zip(features, self.pixels, strict=True):
            images = None
            if array is not None:
                images = reader.pool(reader.look_at_images(torch.from_numpy(np.array(array, dtype=np.float32))))
            seen.append(replace(item, images=None if images is None else images.cpu()))
        return seen

    def _images(self, row: int, epoch: int | None) -> Tensor | None:
        array = self.pixels[row]
        if array is None:
            return None
        images = torch.from_numpy(np.array(array, dtype=np.float32))
        if epoch is None or self.augmentation is None:
            return images
        self.augmentation.set_random_state(seed=mixed_seed(self.seed, epoch, row) % 2**32)
        return torch.stack([torch.as_tensor(np.asarray(self.augmentation(image))) for image in images])
