"""Attributions of a case's images on the grids of the series that they came from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medmm.config import TaskSpec
from medmm.encoders.tokens import Tokens
from medmm.explain.gradients import Contributions, margin
from medmm.explain.methods import VolumeMethod
from medmm.explain.sensitivity import integrated_gradients, smoothgrad
from medmm.explain.volume import ACTIVATION_MAPS, TITLES
from medmm.inputs import CaseReader, CaseView, collate
from medmm.model import ModelInputs
from medmm.results import VolumeAttribution

METHOD = "HiResCAM over the images"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesQuestion:
    """How much do a case's images speak for class `target` of a task?

    `volume` (1, n, *S): the n images as the channels of one example, because they are answered together.
    """

    reader: CaseReader
    inputs: ModelInputs
    task: TaskSpec
    target: int
    volume: Float[Tensor, "1 n *S"]

    @property
    def present(self) -> Bool[Tensor, "1 n"]:
        """All of them."""
        return torch.ones(self.volume.shape[:2], dtype=torch.bool, device=self.volume.device)

    def margin(self, volume: Float[Tensor, "1 n *S"]) -> Float[Tensor, " 1"]:
        """The answer's margin (see `medmm.explain.gradients`); differentiable."""
        return self.margin_of(self.reader.look_at_images(volume[0][:, None]))

    def margin_of(self, maps: Float[Tensor, "n F *s"]) -> Float[Tensor, " 1"]:
        """The same for what the network saw."""
        assert self.inputs.images is not None  # the question was asked about images
        vectors = self.reader.pool(maps)
        inputs = replace(self.inputs, images=Tokens(vectors[None], self.inputs.images.mask))  # type: ignore[index]  # maps are there
        return margin(self.reader.model(inputs).logits[self.task.name], self.target, self.task.kind)

    def blank(self) -> Float[Tensor, "1 n *S"]:
        """Images that show nothing but their own mean."""
        axes = tuple(range(2, self.volume.ndim))
        return self.volume.mean(dim=axes, keepdim=True).expand_as(self.volume)


def ask_images(reader: CaseReader, view: CaseView, task: TaskSpec, target: int) -> ImagesQuestion:
    """Return the question for a case with images."""
    if view.images is None:
        raise ValueError("Expected a case with images.")
    device = next(reader.model.parameters()).device
    volume = torch.from_numpy(view.images.array).to(device)[:, 0][None]
    return ImagesQuestion(
        reader=reader, inputs=collate([view.features], reader), task=task, target=target, volume=volume
    )


@torch.no_grad()
def occlusion(question: ImagesQuestion) -> Float[Tensor, " n *S"]:
    """How far the margin falls when a box of an image becomes the image's mean (Zeiler and Fergus, ECCV 2014).

    Boxes tile each image; only the image that changed passes the network again.
    """
    volume, blank = question.volume[0], question.blank()[0]
    maps = question.reader.look_at_images(volume[:, None])
    full = float(question.margin_of(maps))
    falls = torch.zeros_like(volume)
    boxes = _boxes(volume.shape[1:])
    for row, image in enumerate(volume):
        covered = image.repeat(len(boxes), *(1,) * image.ndim)
        for number, box in enumerate(boxes):
            covered[number][box] = blank[row][box]
        for box, seen in zip(boxes, question.reader.look_at_images(covered[:, None]), strict=True):
            changed = torch.cat([maps[:row], seen[None], maps[row + 1 :]])
            falls[row][box] = full - float(question.margin_of(changed))
    return falls


def _boxes(size: torch.Size) -> list[tuple[slice, ...]]:
    """Boxes that tile an image, so many a side that there are 64 of them."""
    sides = 8 if len(size) == 2 else 4
    edges = [torch.linspace(0, length, sides + 1).round().int().tolist() for length in size]
    spans = [[slice(low, high) for low, high in pairwise(edge) if high > low] for edge in edges]
    return list(product(*spans))


def cells_by_method(method: VolumeMethod, question: ImagesQuestion, maps: Tensor, parts: Contributions) -> Tensor:
    """Return contributions (n, *s) of cells: of the images' feature maps, or of the images themselves.

    Args:
        method: `lesion` is HiResCAM against the mean training image; the Grad-CAM family goes by the maps alone; the
            others by the pixels.
        question: Which answer is asked about.
        maps: (n, F, *s) feature maps.
        parts: What the backward pass gave.
    """
    if method in _PIXEL_METHODS:
        return _PIXEL_METHODS[method](question)
    if parts.cells is None or parts.maps is None:
        raise ValueError("Expected contributions of a case with images.")
    if method == "lesion":
        return parts.cells
    return ACTIVATION_MAPS[method](maps.transpose(0, 1), parts.maps.transpose(0, 1))


_PIXEL_METHODS: dict[str, Callable[[ImagesQuestion], Tensor]] = {
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "occlusion": occlusion,
}


def cells_to_attributions(
    cells: Tensor, view: CaseView, *, task: str, target: str, method: VolumeMethod
) -> tuple[VolumeAttribution, ...]:
    """Return what spoke for the target in each series that did at all, the strongest first.

    All are scaled alike, so that the strongest place of the case is 1.

    Args:
        cells: (n, *s) contributions, of the cells of the images' feature maps or of their pixels.
        view: The case, with its prepared images.
        task: The question.
        target: The answer that is explained.
        method: How they were found.
    """
    if view.images is None:
        return ()
    values = cells.clamp_min(0).float().cpu().numpy()
    drawn = [grid.to_source(values[list(grid.rows)]) for grid in view.images.grids]
    strongest = max(float(voxels.max()) for voxels in drawn)
    if not strongest > 0:
        return ()
    found = [
        VolumeAttribution(
            role=grid.role,
            task=task,
            target=target,
            method=METHOD if method == "lesion" else TITLES[method],
            values=np.clip(voxels / strongest, 0, 1),
            affine_ras=grid.affine_ras,
        )
        for grid, voxels in zip(view.images.grids, drawn, strict=True)
        if voxels.max() > 0
    ]
    return tuple(sorted(found, key=lambda item: -float(item.values.max())))
