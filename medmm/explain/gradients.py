"""One forward pass whose inputs can be asked what they did: leaves at the trunk's features, word pieces, concepts."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from medmm.encoders.slice_unet import TrunkOutput
from medmm.encoders.volume import UNIFORM_WEIGHT, marked_mass, summarise
from medmm.inputs import CaseReader, CaseView, collate
from medmm.model import ModelInputs, ModelOutput


@dataclass(frozen=True, slots=True)
class Leaves:
    """Tensors that the answer was computed from, with gradients on; None for what the case does not have.

    `features` (1, F, D, h, w) of the trunk, `volume` (1, C, D, H, W) standardised intensities, `words` (W, T, S) states
    of word pieces, whose means are the sentences, `nodes` (V, F) features of the subgraph's concepts.
    """

    features: Tensor | None
    volume: Tensor | None
    words: Tensor | None
    nodes: Tensor | None


@dataclass(frozen=True, slots=True)
class Traced:
    """A differentiable pass over one case.

    `weights` (1, 1, D, H, W): the regions' probability, which pooled. `reference`: what each leaf is compared with, the
    mean training case for the trunk's features, the mask piece for words, 0 for the others.
    """

    inputs: ModelInputs
    output: ModelOutput
    leaves: Leaves
    weights: Tensor | None
    reference: Leaves


@dataclass(frozen=True, slots=True)
class Contributions:
    """Gradient x input for one target, summed over channels: voxels (D, H, W), word pieces (W, T), nodes (V,)."""

    voxels: Tensor | None
    pieces: Tensor | None
    nodes: Tensor | None


def trace(reader: CaseReader, view: CaseView) -> Traced:
    """Run the model on one case so that every modality can be attributed with one backward pass a target."""
    inputs = collate([view.features], reader)
    features = volume = words = nodes = None
    with torch.enable_grad():
        if view.seen is not None and view.prepared is not None:
            features = view.seen.features.detach().clone().requires_grad_()
            device = features.device
            volume = torch.from_numpy(view.prepared.array)[None].to(device).requires_grad_()
            present = torch.from_numpy(view.prepared.present)[None].to(device)
            summary = summarise(TrunkOutput(view.seen.region_logits.detach(), features), volume, present)
            inputs = replace(inputs, volume=summary)
        if view.encoded is not None and reader.text_encoder is not None:
            words = reader.text_encoder.states(view.encoded).detach().clone().requires_grad_()
            sentences = reader.text_encoder.sentences(words, view.encoded)
            inputs = replace(inputs, text=sentences[None].to(inputs.present.device))
        if inputs.graph is not None:
            nodes = inputs.graph.nodes.detach().clone().requires_grad_()
            inputs = replace(inputs, graph=replace(inputs.graph, nodes=nodes))
        output = reader.model(inputs)
    weights = None if view.seen is None else view.seen.region_logits.detach().sigmoid().amax(dim=1, keepdim=True)
    return Traced(inputs, output, Leaves(features, volume, words, nodes), weights, _reference(reader, features, words))


def _reference(reader: CaseReader, features: Tensor | None, words: Tensor | None) -> Leaves:
    mean = None
    if features is not None:
        volume_tokens = reader.model.volume_tokens
        mean = volume_tokens.standard_lesion.mean[: volume_tokens.n_features, None, None, None]
    usual = None if words is None else reader.model.text_tokens.standard.mean
    return Leaves(mean, None, usual, None)


def contributions(traced: Traced, task: str, target: int) -> Contributions:
    """Return what each part of the input added to the target's logit over the mean of the other classes' logits.

    For voxels this is HiResCAM (Draelos and Carin, 2020): gradient x activation, summed over channels, before any
    averaging over space, so that a place is bright only where the model used it. To the features' part comes that of
    the intensities, which the lesion's description is computed from (gradient x intensity; 0 is the mean of the head).
    """
    logits = traced.output.logits[task][0]
    others = (logits.sum() - logits[target]) / (len(logits) - 1)
    parts, zero = traced.leaves, traced.reference
    leaves = [leaf for leaf in (parts.features, parts.volume, parts.words, parts.nodes) if leaf is not None]
    if not leaves:  # a record alone: its fields are left out one by one instead
        return Contributions(None, None, None)
    grads = iter(torch.autograd.grad(logits[target] - others, leaves, retain_graph=True, allow_unused=True))

    def product(leaf: Tensor | None, reference: Tensor | None, axis: int) -> Tensor | None:
        if leaf is None:
            return None
        grad = next(grads)
        difference = leaf if reference is None else leaf - reference
        return None if grad is None else (grad * difference).detach().sum(dim=axis)

    cells, intensities = product(parts.features, zero.features, 1), product(parts.volume, None, 1)
    return Contributions(
        voxels=_on_voxels(cells, intensities, traced),
        pieces=product(parts.words, zero.words, -1),
        nodes=product(parts.nodes, None, -1),
    )


def _on_voxels(cells: Tensor | None, intensities: Tensor | None, traced: Traced) -> Tensor | None:
    """Sum of both parts (D, H, W). A cell's contribution is shared among its voxels as pooling weighed them.

    `summarise` weighs a cell by the mean of its voxels' region probability, so this keeps every cell's sum.
    """
    if traced.weights is None:
        return None
    total = torch.zeros_like(traced.weights)
    if cells is not None:
        weights = marked_mass(traced.weights) + UNIFORM_WEIGHT / traced.weights.numel()
        quarter = functional.avg_pool3d(weights, (1, 4, 4))
        share = weights / functional.interpolate(quarter, size=weights.shape[2:], mode="nearest")
        total = total + functional.interpolate(cells[:, None], size=weights.shape[2:], mode="nearest") * share / 16
    if intensities is not None:
        total = total + intensities[:, None]
    return total[0, 0]
