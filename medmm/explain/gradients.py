"""One forward pass whose inputs can be asked what they did: leaves at the lesion, word pieces and concepts."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from medmm.config import TaskSpec
from medmm.encoders.tokens import Tokens
from medmm.inputs import CaseReader, CaseView, collate
from medmm.model import ModelInputs, ModelOutput
from medmm.results import TaskKind


@dataclass(frozen=True, slots=True)
class Leaves:
    """Tensors that the answer was computed from, with gradients on; None for what the case does not have.

    `lesion` (1, P): features and description pooled under the regions, `words` (W, T, S) states of word pieces, whose
    means are the sentences, `nodes` (V, F) features of the subgraph's concepts, `maps` (n, F, *s) of the images.
    """

    lesion: Tensor | None
    words: Tensor | None
    nodes: Tensor | None
    maps: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Traced:
    """A differentiable pass over one case. `reference`: what each leaf is compared with.

    That is the mean training case for the lesion, images and sentences, and 0 for concepts.
    """

    inputs: ModelInputs
    output: ModelOutput
    leaves: Leaves
    reference: Leaves

    def embedding(self) -> Tensor:
        """The case's embedding (F,), from which every fusion task is answered."""
        if self.output.fused is None:
            raise ValueError("Expected a model that fuses modalities.")
        return self.output.fused.case[0].detach()


@dataclass(frozen=True, slots=True)
class Contributions:
    """Gradient x (input - reference) for one target: lesion vector (P,), word pieces (W, T), nodes (V,), cells (n, *s).

    `lesion` and `maps` (n, F, *s) hold the gradient itself: `medmm.explain.volume` spreads it over the voxels that the
    lesion was pooled from, `medmm.explain.images` weighs the images' feature maps by it.
    """

    lesion: Tensor | None = None
    pieces: Tensor | None = None
    nodes: Tensor | None = None
    cells: Tensor | None = None
    maps: Tensor | None = None


def trace(reader: CaseReader, view: CaseView) -> Traced:
    """Run the model on one case so that every modality can be attributed with one backward pass a target."""
    inputs = collate([view.features], reader)
    lesion = words = nodes = maps = None
    with torch.enable_grad():
        if inputs.volume is not None:
            lesion = inputs.volume.lesion.detach().clone().requires_grad_()
            inputs = replace(inputs, volume=replace(inputs.volume, lesion=lesion))
        if inputs.images is not None and view.maps is not None:
            maps = view.maps.detach().clone().requires_grad_()
            vectors = reader.pool(maps)
            inputs = replace(inputs, images=Tokens(vectors[None], inputs.images.mask))  # type: ignore[index]  # maps are there
        if view.encoded is not None and reader.text_encoder is not None:
            words = reader.text_encoder.states(view.encoded).detach().clone().requires_grad_()
            sentences = reader.text_encoder.sentences(words, view.encoded)
            inputs = replace(inputs, text=sentences[None].to(inputs.present.device))
        if inputs.graph is not None:
            nodes = inputs.graph.nodes.detach().clone().requires_grad_()
            inputs = replace(inputs, graph=replace(inputs.graph, nodes=nodes))
        output = reader.model(inputs)
    usual_lesion = None if lesion is None else reader.model.volume_tokens.standard_lesion.mean
    usual_maps = None if maps is None else reader.model.image_tokens.standard.mean
    usual_words = None if words is None else reader.model.text_tokens.standard.mean
    return Traced(
        inputs, output, Leaves(lesion, words, nodes, maps), Leaves(usual_lesion, usual_words, None, usual_maps)
    )


def margin(logits: Float[Tensor, "B L"], target: int, kind: TaskKind) -> Float[Tensor, " B"]:
    """Return the target's logit over the mean of the other classes' logits; what explanations explain.

    Over nothing where the classes are independent of each other, as findings of a multi-label task are.
    """
    own = logits[:, target]
    if kind == "multilabel" or logits.shape[1] == 1:
        return own
    return own - (logits.sum(dim=1) - own) / (logits.shape[1] - 1)


def contributions(traced: Traced, task: TaskSpec, target: int) -> Contributions:
    """Return what each part of the input added to the target's margin."""
    answer = margin(traced.output.logits[task.name], target, task.kind)
    parts = traced.leaves
    leaves = [leaf for leaf in (parts.lesion, parts.words, parts.nodes, parts.maps) if leaf is not None]
    if not leaves:  # a record alone: its fields are left out one by one instead
        return Contributions()
    found = torch.autograd.grad(answer.sum(), leaves, retain_graph=True, allow_unused=True)
    grads = iter(found)

    def gradient(leaf: Tensor | None) -> Tensor | None:
        return None if leaf is None else next(grads)

    lesion, words, nodes = gradient(parts.lesion), gradient(parts.words), gradient(parts.nodes)
    maps = gradient(parts.maps)
    usual = traced.reference.words
    return Contributions(
        lesion=None if lesion is None else lesion[0].detach(),
        pieces=None
        if words is None or parts.words is None
        else (words * (parts.words - (0 if usual is None else usual))).detach().sum(dim=-1),
        nodes=None if nodes is None or parts.nodes is None else (nodes * parts.nodes).detach().sum(dim=-1),
        cells=None if maps is None else _cells(maps, traced),
        maps=maps,
    )


def _cells(gradient: Tensor, traced: Traced) -> Tensor:
    """Gradient x (maps - mean vector) by cell: HiResCAM (Draelos and Carin, 2020) against the mean training image."""
    maps, usual = traced.leaves.maps, traced.reference.maps
    if maps is None or usual is None:
        raise ValueError("Expected feature maps with a reference.")
    difference = maps - usual.reshape(1, -1, *(1,) * (maps.ndim - 2))
    return (gradient * difference).detach().sum(dim=1)
