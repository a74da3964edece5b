"""Voxel attributions on the source grid."""

import numpy as np
from torch import Tensor

from medmm.encoders.volume import marked_mass
from medmm.inputs import CaseView
from medmm.results import VolumeAttribution


def voxels_to_attribution(voxels: Tensor, view: CaseView, task: str, target: str) -> VolumeAttribution | None:
    """Return what spoke for the target, scaled to [0, 1], on the source grid.

    None where the volume as a whole spoke against it: a picture would then show the small rest that did not.
    """
    if not float(voxels.sum()) > 0:
        return None
    positive = voxels.clamp_min(0).float().cpu().numpy()
    return _attribution(positive, view, task, target, "HiResCAM")


def region_to_attribution(view: CaseView, task: str, target: str) -> VolumeAttribution | None:
    """For location tasks the evidence is where the region lies: return the region's probability where it counts."""
    if view.seen is None:
        return None
    chance = view.seen.region_logits[0].sigmoid().amax(dim=0)
    return _attribution(marked_mass(chance).float().cpu().numpy(), view, task, target, "region probability")


def _attribution(values: np.ndarray, view: CaseView, task: str, target: str, method: str) -> VolumeAttribution | None:
    if view.prepared is None or not values.max() > 0:
        return None
    grid = view.prepared.grid
    on_source = grid.to_source(values / values.max())
    return VolumeAttribution(
        role=grid.role,
        task=task,
        target=target,
        method=method,
        values=np.clip(on_source / max(float(on_source.max()), 1e-12), 0, 1).astype(np.float32),
        affine_ras=grid.affine_ras,
    )
