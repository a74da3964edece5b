"""One forward pass whose inputs can be asked what they did: leaves at the lesion, word pieces and concepts.

Several cases can share the pass, and the backward pass of a task: no operation looks from one case to another, so the
gradient of the sum of their margins by what belongs to one case is the gradient of that case's own margin.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medmm.config import TaskSpec
from medmm.encoders.tokens import Tokens
from medmm.inputs import CaseReader, CaseView, collate, stack_vectors
from medmm.model import ModelInputs, ModelOutput
from medmm.results import TaskKind


@dataclass(frozen=True, slots=True)
class Leaves:
    """Tensors that one case's answer was computed from, gradients on; None for what the case does not have.

    `lesion` (1, P): features and description pooled under the regions, `words` (W, T, S) states of word pieces, whose
    means are the sentences, `nodes` (V, F) features of the subgraph's concepts, `maps` (n, F, *s) of the images.
    """

    lesion: Tensor | None
    words: Tensor | None
    nodes: Tensor | None
    maps: Tensor | None

    def tensors(self) -> list[Tensor]:
        """Those that there are."""
        return [leaf for leaf in (self.lesion, self.words, self.nodes, self.maps) if leaf is not None]


@dataclass(frozen=True, slots=True)
class Traced:
    """A differentiable pass over some cases, with the leaves of each.

    Word states and maps are compared with `usual_words` (S,) and `usual_maps` (F,), the means of the training cases.
    """

    output: ModelOutput
    leaves: tuple[Leaves, ...]
    usual_words: Tensor | None
    usual_maps: Tensor | None

    def embedding(self, row: int) -> Tensor:
        """A case's embedding (F,), from which every fusion task is answered."""
        if self.output.fused is None:
            raise ValueError("Expected a model that fuses modalities.")
        return self.output.fused.case[row].detach()


@dataclass(frozen=True, slots=True)
class Contributions:
    """Gradient x (input - reference) for one target: word pieces (W, T), nodes (V,), cells (n, *s) of the images.

    `lesion` (P,) and `maps` (n, F, *s) hold the gradient itself: `medmm.explain.volume` spreads it over the voxels that
    the lesion was pooled from, `medmm.explain.images` weighs the images' feature maps by it. Concepts have no
    reference: they are compared with 0.
    """

    lesion: Tensor | None = None
    pieces: Tensor | None = None
    nodes: Tensor | None = None
    cells: Tensor | None = None
    maps: Tensor | None = None


def trace(reader: CaseReader, views: Sequence[CaseView]) -> Traced:
    """Run the learned part on some cases so that every modality can be attributed with one backward pass a task."""
    inputs = collate([view.features for view in views], reader)
    model = reader.model
    with torch.enable_grad():
        leaves = _leaves(inputs, views)
        output = model(_computed_from(leaves, inputs, reader, views))
    return Traced(
        output,
        leaves,
        None if inputs.text is None else model.text_tokens.standard.mean,
        None if inputs.images is None else model.image_tokens.standard.mean,
    )


def margin(logits: Float[Tensor, "B L"], target: int | Int[Tensor, " B"], kind: TaskKind) -> Float[Tensor, " B"]:
    """Return the target's logit over the mean of the other classes' logits; what explanations explain.

    Over nothing where the classes are independent of each other, as findings of a multi-label task are.

    Args:
        logits: Of a task.
        target: One class for all cases, or one for each.
        kind: Of the task.
    """
    targets = torch.as_tensor(target, device=logits.device).expand(len(logits))
    own = logits.gather(1, targets[:, None])[:, 0]
    if kind == "multilabel" or logits.shape[1] == 1:
        return own
    return own - (logits.sum(dim=1) - own) / (logits.shape[1] - 1)


def contributions(traced: Traced, task: TaskSpec, targets: Sequence[int]) -> list[Contributions]:
    """Return for each case what each part of the input added to the margin of its target."""
    answers = margin(traced.output.logits[task.name], torch.tensor(targets), task.kind)
    leaves = [leaf for own in traced.leaves for leaf in own.tensors()]
    if not leaves:  # records alone: their fields are left out one by one instead
        return [Contributions()] * len(targets)
    gradients = iter(torch.autograd.grad(answers.sum(), leaves, retain_graph=True, allow_unused=True))
    return [_contributions(traced, own, gradients) for own in traced.leaves]


def _leaves(inputs: ModelInputs, views: Sequence[CaseView]) -> tuple[Leaves, ...]:
    """What each case's answer is computed from, cut off from where it came from."""

    def leaf(value: Tensor | None) -> Tensor | None:
        return None if value is None or not len(value) else value.detach().clone().requires_grad_()

    nodes: Sequence[Tensor | None] = [None] * len(views)
    if inputs.graph is not None:
        nodes = inputs.graph.nodes.split(torch.bincount(inputs.graph.case, minlength=len(views)).tolist())
    return tuple(
        Leaves(
            lesion=leaf(
                None if inputs.volume is None or view.features.summary is None else inputs.volume.lesion[row : row + 1]
            ),
            words=leaf(view.states),
            nodes=leaf(nodes[row]),
            maps=leaf(view.maps),
        )
        for row, view in enumerate(views)
    )


def _computed_from(
    leaves: Sequence[Leaves], inputs: ModelInputs, reader: CaseReader, views: Sequence[CaseView]
) -> ModelInputs:
    """The batch with everything that has leaves computed from them."""
    device = inputs.present.device
    if inputs.volume is not None:
        rows = inputs.volume.lesion.split(1)
        lesion = torch.cat([row if own.lesion is None else own.lesion for row, own in zip(rows, leaves, strict=True)])
        inputs = replace(inputs, volume=replace(inputs.volume, lesion=lesion))
    if inputs.images is not None:
        vectors = stack_vectors([reader.pool(own.maps) for own in leaves])
        assert vectors is not None  # some case has images
        inputs = replace(inputs, images=Tokens(vectors.values.to(device), inputs.images.mask))
    if inputs.text is not None:
        sentences = stack_vectors(
            [reader.sentences(own.words, view.encoded) for own, view in zip(leaves, views, strict=True)]
        )
        assert sentences is not None  # some case has a report
        inputs = replace(inputs, text=sentences.values.to(device))
    if inputs.graph is not None:
        nodes = torch.cat([own.nodes for own in leaves if own.nodes is not None])
        inputs = replace(inputs, graph=replace(inputs.graph, nodes=nodes))
    return inputs


def _contributions(traced: Traced, own: Leaves, gradients: Iterator[Tensor | None]) -> Contributions:
    """Of one case, whose gradients come next."""

    def gradient(leaf: Tensor | None) -> Tensor | None:
        return None if leaf is None else next(gradients)

    lesion, words, nodes, maps = (gradient(leaf) for leaf in (own.lesion, own.words, own.nodes, own.maps))
    return Contributions(
        lesion=None if lesion is None else lesion[0].detach(),
        pieces=_times_difference(words, own.words, traced.usual_words, axis=-1),
        nodes=_times_difference(nodes, own.nodes, None, axis=-1),
        # for cells HiResCAM (Draelos and Carin, 2020) against the mean training image
        cells=_times_difference(maps, own.maps, traced.usual_maps, axis=1),
        maps=maps,
    )


def _times_difference(gradient: Tensor | None, leaf: Tensor | None, usual: Tensor | None, axis: int) -> Tensor | None:
    """Gradient x (leaf - usual vector), summed over the axis of the vectors."""
    if gradient is None or leaf is None:
        return None
    if usual is not None:
        shape = [1] * leaf.ndim
        shape[axis] = -1
        leaf = leaf - usual.to(leaf.device).reshape(shape)
    return (gradient * leaf).detach().sum(dim=axis)
