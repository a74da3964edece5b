"""Attributions of a case's images on the grids of the series that they came from."""

import numpy as np
from torch import Tensor

from medmm.errors import UsageError
from medmm.explain.gradients import Contributions
from medmm.explain.methods import VolumeMethod
from medmm.explain.volume import ACTIVATION_MAPS, TITLES
from medmm.inputs import CaseView
from medmm.results import VolumeAttribution

METHOD = "HiResCAM over the images"


def cells_by_method(method: VolumeMethod, maps: Tensor, parts: Contributions) -> Tensor:
    """Return contributions (n, *s) of the cells of the images' feature maps.

    Args:
        method: `lesion` is HiResCAM against the mean training image; the Grad-CAM family goes by the maps alone.
        maps: (n, F, *s) feature maps.
        parts: What the backward pass gave.
    Raises:
        UsageError: `config.key` for a method that asks for a trunk with regions.
    """
    if parts.cells is None or parts.maps is None:
        raise ValueError("Expected contributions of a case with images.")
    if method == "lesion":
        return parts.cells
    if method not in ACTIVATION_MAPS:
        raise UsageError(
            f"Expected lesion, {', '.join(ACTIVATION_MAPS)} for a model of images (got {method!r}).", code="config.key"
        )
    return ACTIVATION_MAPS[method](maps.transpose(0, 1), parts.maps.transpose(0, 1))


def cells_to_attributions(
    cells: Tensor, view: CaseView, *, task: str, target: str, method: VolumeMethod
) -> tuple[VolumeAttribution, ...]:
    """Return what spoke for the target in each series that did at all, the strongest first.

    All are scaled alike, so that the strongest place of the case is 1.

    Args:
        cells: (n, *s) contributions of the cells of the images' feature maps.
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
