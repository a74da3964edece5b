"""Each modality's share in an answer: exact Shapley values, and what leaving a record field out changes."""

from dataclasses import replace
from itertools import combinations
from math import factorial

import torch
from torch import Tensor

from medmm.config import MODALITIES, TaskSpec
from medmm.encoders.tokens import Tokens
from medmm.encoders.volume import VolumeSummary
from medmm.heads import probabilities
from medmm.inputs import CaseReader
from medmm.model import ModelInputs
from medmm.results import FieldAttribution, ModalityShare
from medmm.types import Record


def modality_shares(
    reader: CaseReader, inputs: ModelInputs, task: TaskSpec, target: int
) -> tuple[tuple[ModalityShare, ...], float]:
    """Return the exact Shapley value of each modality for the target's probability, and the probability without any.

    The values of the present modalities add up to the difference between the two (Shapley 1953; Lundberg and Lee,
    NeurIPS 2017). At most 16 subsets, answered in one batch; absent modalities get 0.
    """
    players = [index for index in range(len(MODALITIES)) if bool(inputs.present[0, index])]
    subsets = [frozenset(subset) for size in range(len(players) + 1) for subset in combinations(players, size)]
    present = torch.tensor([[index in subset for index in range(len(MODALITIES))] for subset in subsets])
    rows = _repeat(inputs, len(subsets)).with_present(present.to(inputs.present.device))
    chances = _chances(reader, rows, task)[:, target].tolist()
    value = dict(zip(subsets, chances, strict=True))
    count = len(players)
    shares = []
    for index, name in enumerate(MODALITIES):
        share = 0.0
        for subset in subsets:
            if index in players and index not in subset:
                weight = factorial(len(subset)) * factorial(count - len(subset) - 1) / factorial(count)
                share += weight * (value[subset | {index}] - value[subset])
        if name in reader.config.modalities:
            shares.append(ModalityShare(modality=name, is_present=index in players, share=share))
    return tuple(shares), value[frozenset()]


def field_attributions(
    reader: CaseReader, inputs: ModelInputs, record: Record, task: TaskSpec, target: int
) -> tuple[FieldAttribution, ...]:
    """Return for each known record field how much the target's probability falls when the field is left out."""
    values = inputs.record
    if values is None or not bool(inputs.present[0, MODALITIES.index("record")]):
        return ()
    known = [index for index in range(values.shape[1]) if not bool(values[0, index].isnan())]
    rows = _repeat(inputs, len(known) + 1)
    values = values.repeat(len(known) + 1, 1)
    for row, index in enumerate(known):
        values[row + 1, index] = float("nan")
    has_any = ~values.isnan().all(dim=1)
    present = rows.present.clone()
    present[:, MODALITIES.index("record")] &= has_any
    chances = _chances(reader, replace(rows, record=values, present=present), task)[:, target]
    fields = [reader.config.record[index] for index in known]
    return tuple(
        FieldAttribution(
            name=item.name, value=_as_text(record.values[item.name]), attribution=float(chances[0] - chances[row + 1])
        )
        for row, item in enumerate(fields)
    )


def _as_text(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float | int) else value


@torch.no_grad()
def _chances(reader: CaseReader, inputs: ModelInputs, task: TaskSpec) -> Tensor:
    logits = reader.model(inputs).logits[task.name]
    return probabilities(logits, task.kind, task.calibration.temperature).double().cpu()


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
    )
