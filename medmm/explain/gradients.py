"""One forward pass whose inputs can be asked what they did: leaves at the trunk's features, word pieces, concepts."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medmm.encoders.slice_unet import TrunkOutput
from medmm.encoders.volume import summarise
from medmm.inputs import CaseReader, CaseView, collate
from medmm.model import ModelInputs, ModelOutput


@dataclass(frozen=True, slots=True)
class Leaves:
    """Tensors that the answer was computed from, with gradients on; None for what the case does not have.

    `features` (1, F, D, h, w) of the trunk, `words` (W, T, S) input embeddings of word pieces, `nodes` (V, F) features
    of the subgraph's concepts.
    """

    features: Tensor | None
    words: Tensor | None
    nodes: Tensor | None


@dataclass(frozen=True, slots=True)
class Traced:
    """A differentiable pass over one case."""

    inputs: ModelInputs
    output: ModelOutput
    leaves: Leaves


@dataclass(frozen=True, slots=True)
class Contributions:
    """Gradient x input for one target, summed over channels: voxel cells (D, h, w), word pieces (W, T), nodes (V,)."""

    cells: Tensor | None
    pieces: Tensor | None
    nodes: Tensor | None


def trace(reader: CaseReader, view: CaseView) -> Traced:
    """Run the model on one case so that every modality can be attributed with one backward pass a target."""
    inputs = collate([view.features], reader)
    features = words = nodes = None
    with torch.enable_grad():
        if view.seen is not None and view.prepared is not None:
            features = view.seen.features.detach().clone().requires_grad_()
            device = features.device
            volume = torch.from_numpy(view.prepared.array)[None].to(device)
            present = torch.from_numpy(view.prepared.present)[None].to(device)
            summary = summarise(TrunkOutput(view.seen.region_logits.detach(), features), volume, present)
            inputs = replace(inputs, volume=summary)
        if view.encoded is not None and reader.text_encoder is not None:
            words = reader.text_encoder.embed(view.encoded).detach().clone().requires_grad_()
            states = reader.text_encoder.states(words, view.encoded)
            inputs = replace(inputs, text=states[None].to(inputs.present.device))
        if inputs.graph is not None:
            nodes = inputs.graph.nodes.detach().clone().requires_grad_()
            inputs = replace(inputs, graph=replace(inputs.graph, nodes=nodes))
        output = reader.model(inputs)
    return Traced(inputs, output, Leaves(features, words, nodes))


def contributions(traced: Traced, task: str, target: int) -> Contributions:
    """Return what each part of the input added to the target's logit over the mean of the other classes' logits.

    For voxels this is HiResCAM (Draelos and Carin, 2020): gradient x activation, summed over channels, before any
    averaging over space, so that a cell is bright only where the model used it.
    """
    logits = traced.output.logits[task][0]
    others = (logits.sum() - logits[target]) / (len(logits) - 1)
    leaves = [leaf for leaf in (traced.leaves.features, traced.leaves.words, traced.leaves.nodes) if leaf is not None]
    if not leaves:  # a record alone: its fields are left out one by one instead
        return Contributions(None, None, None)
    grads = iter(torch.autograd.grad(logits[target] - others, leaves, retain_graph=True, allow_unused=True))

    def product(leaf: Tensor | None, axis: int) -> Tensor | None:
        if leaf is None:
            return None
        grad = next(grads)
        return None if grad is None else (grad * leaf).detach().sum(dim=axis)

    cells = product(traced.leaves.features, 1)
    return Contributions(
        cells=None if cells is None else cells[0],
        pieces=product(traced.leaves.words, -1),
        nodes=product(traced.leaves.nodes, -1),
    )
