"""Voxel attributions by the name of a method, on the source grids of the series.

`lesion`: the lesion's vector is pooled from cells with known weights, so its gradient can be spread back over them
without loss: what the cells get adds up to gradient x (lesion - mean training lesion). For the trunk's features that is
HiResCAM (Draelos and Carin, 2020) with the mean training case as reference; mean intensity and contrast spread
likewise; position and size belong to the lesion as a whole and spread by weight. Slice tokens are not drawn. A location
task is answered from where the region lies: its evidence is the region's probability.

The other methods go through the trunk: `medmm.explain.activation_maps`, `medmm.explain.sensitivity`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medmm.config import TaskSpec
from medmm.encoders.volume import N_POSITION, UNIFORM_WEIGHT, marked_mass
from medmm.explain import activation_maps, sensitivity
from medmm.explain.methods import VolumeMethod
from medmm.explain.question import VolumeQuestion
from medmm.inputs import CaseView
from medmm.model import MultimodalModel
from medmm.results import VolumeAttribution

LESION_METHOD = "HiResCAM over the lesion"
REGION_METHOD = "region probability"

ACTIVATION_MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": activation_maps.gradcam,
    "gradcam++": activation_maps.gradcam_plus_plus,
    "hirescam": activation_maps.hirescam,
    "layercam": activation_maps.layercam,
}
_SENSITIVITY: dict[str, Callable[[VolumeQuestion], Tensor]] = {
    "integrated_gradients": sensitivity.integrated_gradients,
    "smoothgrad": sensitivity.smoothgrad,
    "occlusion": sensitivity.occlusion,
}
TITLES: dict[str, str] = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "integrated_gradients": "integrated gradients",
    "smoothgrad": "SmoothGrad",
    "occlusion": "occlusion",
}


def attribute_volume(
    method: VolumeMethod, question: VolumeQuestion, view: CaseView, lesion_gradient: Tensor | None
) -> Tensor:
    """Return signed contributions (S, D, H, W) on the network's grid; S is 1, or one for each sequence.

    Args:
        method: One of `medmm.explain.methods.VOLUME_METHODS`.
        question: Which answer is asked about.
        view: The case as it was read.
        lesion_gradient: (P,) gradient of the answer by the lesion's vector; `lesion` needs it for fusion tasks.
    """
    if method in ACTIVATION_MAPS:
        return activation_maps.to_cells(ACTIVATION_MAPS[method](*activation_maps.attend(question)), question)
    if method in _SENSITIVITY:
        return _SENSITIVITY[method](question)
    if question.task.source == "location":
        return marked_mass(question.seen.region_logits[0].sigmoid().amax(dim=0))[None]
    if lesion_gradient is None:
        raise ValueError("Expected the gradient by the lesion's vector.")
    return lesion_contributions(lesion_gradient, view, question.reader.model)[None]


def place(
    contributions: Tensor, view: CaseView, roles: Sequence[str], *, task: str, target: str, method: str
) -> tuple[VolumeAttribution, ...]:
    """Return what spoke for the target, scaled to [0, 1] over all series, each series on its own source grid.

    Empty where nothing did.

    Args:
        contributions: (S, D, H, W) on the network's grid; S is 1 or the number of `roles`.
        view: The case.
        roles: The model's sequences in the order of its channels.
        task: Name of the question.
        target: Name of the answer.
        method: What the attribution is called in results.
    """
    if view.prepared is None or not float(contributions.max()) > 0:
        return ()
    positive = contributions.clamp_min(0).float().cpu().numpy()
    positive = positive / positive.max()
    grid = view.prepared.grid
    if len(positive) == 1:
        placed = {grid.role: (grid.to_source(positive[0]), grid.affine_ras)}
    else:
        volumes = view.case.volumes
        placed = {
            role: (grid.to_volume(values, volumes[role]), volumes[role].affine_ras)
            for role, values in zip(roles, positive, strict=True)
            if role in volumes
        }
    peak = max(float(values.max()) for values, _ in placed.values())
    masses = {role: float(values.sum(dtype=np.float64)) for role, (values, _) in placed.items()}
    return tuple(
        VolumeAttribution(
            role=role,
            task=task,
            target=target,
            method=method,
            values=np.clip(values / max(peak, 1e-12), 0, 1).astype(np.float32),
            affine_ras=affine,
            share=masses[role] / max(sum(masses.values()), 1e-12),
        )
        for role, (values, affine) in placed.items()
    )


def speaks_for(method: str, contributions: Tensor) -> bool:
    """Whether a picture may be shown at all.

    What `lesion` gives adds up to what the whole lesion said; where that is against the target, a picture would show
    the small rest that was not. The other methods do not add up.
    """
    return method != "lesion" or float(contributions.sum()) > 0


def title_of(method: VolumeMethod, task: TaskSpec) -> str:
    """What a method is called in results."""
    if method == "lesion":
        return REGION_METHOD if task.source == "location" else LESION_METHOD
    return TITLES[method]


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
