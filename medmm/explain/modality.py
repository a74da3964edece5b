"""Each modality's share in an answer: exact Shapley values, and what leaving a record field out changes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import factorial

import torch
from jaxtyping import Float
from torch import Tensor

from medmm.config import MODALITIES, TaskSpec
from medmm.encoders.tokens import Tokens
from medmm.encoders.volume import VolumeSummary
from medmm.heads import probabilities
from medmm.inputs import CaseReader
from medmm.model import ModelInputs
from medmm.results import FieldAttribution, ModalityShare
from medmm.types import Record

RECORD = MODALITIES.index("record")


@dataclass(frozen=True, slots=True)
class PartialAnswers:
    """What a model says of a case of which something is left out: probabilities (R, L) by task, from one batch.

    The first rows are for the `subsets` of the modalities that are present, by their place in `MODALITIES`; the others
    for the record without one of the `fields`, by their place in the model's configuration.
    """

    subsets: tuple[frozenset[int], ...]
    fields: tuple[int, ...]
    chances: Mapping[str, Float[Tensor, "R L"]]


@torch.no_grad()
def answer_parts(reader: CaseReader, inputs: ModelInputs) -> PartialAnswers:
    """Return the answers of every task to parts of one case: at most 16 subsets, and each known field left out."""
    players = [index for index in range(len(MODALITIES)) if bool(inputs.present[0, index])]
    subsets = [frozenset(subset) for size in range(len(players) + 1) for subset in combinations(players, size)]
    fields = _known_fields(inputs)
    rows = _repeat(inputs, len(subsets) + len(fields))
    present, record = rows.present.clone(), rows.record
    for row, subset in enumerate(subsets):
        present[row] = torch.tensor([index in subset for index in range(len(MODALITIES))])
    if record is not None and fields:
        record = record.clone()
        for row, index in enumerate(fields, start=len(subsets)):
            record[row, index] = float("nan")
        present[:, RECORD] &= ~record.isnan().all(dim=1)
    logits = reader.model(replace(rows, present=present, record=record)).logits
    return PartialAnswers(
        tuple(subsets),
        tuple(fields),
        {
            task.name: probabilities(logits[task.name], task.kind, task.calibration.temperature).double().cpu()
            for task in reader.model.labels.fusion_tasks()
        },
    )


def modality_shares(
    reader: CaseReader, parts: PartialAnswers, task: TaskSpec, target: int
) -> tuple[tuple[ModalityShare, ...], float]:
    """Return the exact Shapley value of each modality for the target's probability, and the probability without any.

    The values of the present modalities add up to the difference between the two (Shapley 1953; Lundberg and Lee,
    NeurIPS 2017); absent modalities get 0.
    """
    chances = parts.chances[task.name][: len(parts.subsets), target].tolist()
    value = dict(zip(parts.subsets, chances, strict=True))
    players = max(parts.subsets, key=len)
    count = len(players)
    shares = []
    for index, name in enumerate(MODALITIES):
        share = 0.0
        for subset in parts.subsets:
            if index in players and index not in subset:
                weight = factorial(len(subset)) * factorial(count - len(subset) - 1) / factorial(count)
                share += weight * (value[subset | {index}] - value[subset])
        if name in reader.config.modalities:
            shares.append(ModalityShare(modality=name, is_present=index in players, share=share))
    return tuple(shares), value[frozenset()]


def field_attributions(
    reader: CaseReader, parts: PartialAnswers, record: Record, task: TaskSpec, target: int
) -> tuple[FieldAttribution, ...]:
    """Return for each known record field how much the target's probability falls when the field is left out."""
    chances = parts.chances[task.name][:, target].tolist()
    whole, without = chances[len(parts.subsets) - 1], chances[len(parts.subsets) :]
    fields = [reader.config.record[index] for index in parts.fields]
    return tuple(
        FieldAttribution(name=item.name, value=_as_text(record.values[item.name]), attribution=whole - chance)
        for item, chance in zip(fields, without, strict=True)
    )


def _known_fields(inputs: ModelInputs) -> list[int]:
    if inputs.record is None or not bool(inputs.present[0, RECORD]):
        return []
    return (~inputs.record[0].isnan()).nonzero().flatten().tolist()


def _as_text(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float | int) else value


def _repeat(inputs: ModelInputs, count: int) -> ModelInputs:
    """The same case `count` times."""

    def rows(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.detach().expand(count, *value.shape[1:])

    volume = inputs.volume
    graph = inputs.graph
    if graph is not None:
        size = len(graph.nodes)
        rank = torch.arange(count, device=graph.nodes.device)
        shift = rank.repeat_interleave(graph.edges.shape[1]) * size
        graph = replace(
            graph,
            nodes=graph.nodes.detach().repeat(count, 1),
            edges=graph.edges.repeat(1, count) + shift,
            relations=graph.relations.repeat(count),
            case=rank.repeat_interleave(size),
            n_cases=count,
        )
    return ModelInputs(
        present=inputs.present.expand(count, -1),
        volume=None
        if volume is None
        else VolumeSummary(*(rows(getattr(volume, name)) for name in VolumeSummary.__dataclass_fields__)),  # type: ignore[arg-type]  # tensors stay tensors
        images=None
        if inputs.images is None
        else Tokens(rows(inputs.images.values), inputs.images.mask.expand(count, -1)),  # type: ignore[arg-type]  # tensors stay tensors
        text=rows(inputs.text),
        text_mask=inputs.text_mask.expand(count, -1) if inputs.text_mask is not None else None,
        record=rows(inputs.record),
        graph=graph,
        walk=None if inputs.walk is None else {name: value.expand(count, -1) for name, value in inputs.walk.items()},
        sources=None
        if inputs.sources is None
        else {name: value.expand(count, -1) for name, value in inputs.sources.items()},
    )
