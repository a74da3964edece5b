"""Attributions of a case's images on the grids of the series that they came from."""

import numpy as np
from torch import Tensor

from medmm.inputs import CaseView
from medmm.results import VolumeAttribution

METHOD = "HiResCAM over the images"


def cells_to_attributions(cells: Tensor, view: CaseView, task: str, target: str) -> tuple[VolumeAttribution, ...]:
    """Return what spoke for the target in each series that did at all, the strongest first.

    All are scaled alike, so that the strongest place of the case is 1.

    Args:
        cells: (n, *s) contributions of the cells of the images' feature maps.
        view: The case, with its prepared images.
        task: The question.
        target: The answer that is explained.
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
            method=METHOD,
            values=np.clip(voxels / strongest, 0, 1),
            affine_ras=grid.affine_ras,
        )
        for grid, voxels in zip(view.images.grids, drawn, strict=True)
        if voxels.max() > 0
    ]
    return tuple(sorted(found, key=lambda item: -float(item.values.max())))
