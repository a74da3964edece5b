"""Voxel attributions on the source grid.

The lesion's vector is pooled from cells with known weights, so its gradient can be spread back over them without loss:
what the cells get adds up to gradient x (lesion - mean training lesion). For the trunk's features that is HiResCAM
(Draelos and Carin, 2020) with the mean training case as reference; mean intensity and contrast spread likewise;
position and size belong to the lesion as a whole and spread by weight. Slice tokens are not drawn.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medmm.encoders.volume import N_POSITION, UNIFORM_WEIGHT, marked_mass
from medmm.inputs import CaseView
from medmm.model import MultimodalModel
from medmm.results import VolumeAttribution

METHOD = "HiResCAM over the lesion"


def lesion_to_attribution(
    gradient: Tensor, view: CaseView, model: MultimodalModel, task: str, target: str
) -> VolumeAttribution | None:
    """Return what spoke for the target, scaled to [0, 1], on the source grid.

    None where the lesion as a whole spoke against it: a picture would then show the small rest that did not.
    """
    if view.seen is None or view.prepared is None or view.features.summary is None:
        return None
    voxels = lesion_contributions(gradient, view, model)
    if not float(voxels.sum()) > 0:
        return None
    return _attribution(voxels.clamp_min(0).float().cpu().numpy(), view, task, target, METHOD)


def region_to_attribution(view: CaseView, task: str, target: str) -> VolumeAttribution | None:
    """For location tasks the evidence is where the region lies: return the region's probability where it counts."""
    if view.seen is None:
        return None
    chance = view.seen.region_logits[0].sigmoid().amax(dim=0)
    return _attribution(marked_mass(chance).float().cpu().numpy(), view, task, target, "region probability")


@torch.no_grad()
def lesion_contributions(gradient: Tensor, view: CaseView, model: MultimodalModel) -> Tensor:
    """Return each voxel's contribution (D, H, W); they add up to gradient x (lesion - mean training lesion).

    Args:
        gradient: (P,) of the target's logit by the lesion's vector.
        view: The case, with what the trunk saw.
        model: Whose trunk and training means are used.
    """
    if view.seen is None or view.prepared is None or view.features.summary is None:
        raise ValueError("Expected a case with a volume.")
    lesion = view.features.summary.lesion[0]
    device = lesion.device
    gradient, usual = gradient.to(device), model.volume_tokens.standard_lesion.mean.to(device)
    images = functional.avg_pool3d(torch.from_numpy(view.prepared.array).to(device)[None], (1, 4, 4))[0]
    n_sequences = len(images)
    sizes = [model.volume_tokens.n_features, N_POSITION, n_sequences, n_sequences, n_sequences]
    g_features, g_position, g_intensity, g_contrast, g_present = gradient.split(sizes)
    u_features, u_position, u_intensity, u_contrast, u_present = usual.split(sizes)
    _, position, intensity, contrast, present = lesion.split(sizes)

    def over(channels: Tensor) -> Tensor:
        return channels[:, None, None, None]

    cells = (over(g_features) * (view.seen.features[0] - over(u_features))).sum(dim=0)
    cells = cells + (over(g_intensity) * (images - over(u_intensity))).sum(dim=0)
    # contrast is a deviation: s - t = (variance - t^2) / (s + t), and the variance is a mean over cells
    variance = (images - over(intensity)).square() - over(u_contrast).square()
    cells = cells + (over(g_contrast / (contrast + u_contrast).clamp_min(1e-3)) * variance).sum(dim=0)
    whole = (g_position * (position - u_position)).sum() + (g_present * (present - u_present)).sum()

    mass = marked_mass(view.seen.region_logits[0].sigmoid().amax(dim=0))[None, None]
    weights = mass + UNIFORM_WEIGHT / mass.numel()
    weights = weights / weights.sum()
    at_voxels = functional.interpolate((cells + whole)[None, None], size=mass.shape[2:], mode="nearest")
    return (weights * at_voxels)[0, 0]


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
