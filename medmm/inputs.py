"""From a case to what the learned part of a model reads. Everything here is frozen or has no parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kg import KnowledgeGraph, Mention
from kg.subgraph import Subgraph
from medmm.config import MODALITIES
from medmm.device import Precision
from medmm.encoders.graph import graph_input
from medmm.encoders.images import pool_maps
from medmm.encoders.lstm_text import LstmTextEncoder
from medmm.encoders.record import encode_record
from medmm.encoders.slice_unet import NEIGHBOURS, TrunkOutput, look, look_together
from medmm.encoders.source_match import SourceMatch, source_match
from medmm.encoders.text import Encoded, TextEncoder, name_vector
from medmm.encoders.tokens import Tokens
from medmm.encoders.volume import VolumeSummary, summarise
from medmm.errors import UsageError
from medmm.evidence import Evidence, answer_concepts, report_evidence, seeds, walk_scores
from medmm.model import ModelInputs, MultimodalModel
from medmm.passes import in_passes, rows_that_fit
from medmm.preprocess import PreparedVolume, count_slices, prepare_volume
from medmm.preprocess_images import PreparedImages, count_images, prepare_images
from medmm.types import Case, Note, Record, Report

IMAGES_AT_ONCE = 16  # bounds the memory that a case of hundreds of images takes
_Seen = tuple[PreparedVolume | None, TrunkOutput | None]
_Mapped = tuple[PreparedImages | None, Tensor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFeatures:
    """One case, ready to be batched. None where the case does not have the modality.

    `summary` is a batch of one; `images` (N, P) vectors of images; `text` (T, S); `record` one number a field; `walk`
    (L,) by task, `sources` (L,) by ranking task.
    """

    summary: VolumeSummary | None = None
    images: Tensor | None = None
    text: Tensor | None = None
    record: tuple[float, ...] | None = None
    subgraph: Subgraph | None = None
    walk: dict[str, np.ndarray] = field(default_factory=dict)
    sources: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def present(self) -> tuple[bool, ...]:
        """Which modalities the case has, in the order of `MODALITIES`."""
        has_record = self.record is not None and not np.isnan(self.record).all()
        has_volume = self.summary is not None or self.images is not None
        return (has_volume, self.text is not None, has_record, self.subgraph is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """A case with everything that was computed on the way to its features; explanations read it.

    `prepared` and `seen` are of a model with a trunk, `images` and `maps` (n, F, *s), the feature maps, of one that
    reads images. `states` (W, T, S) of the word pieces in `encoded`.
    """

    case: Case
    features: CaseFeatures
    prepared: PreparedVolume | None = None
    seen: TrunkOutput | None = None
    images: PreparedImages | None = None
    maps: Tensor | None = None
    encoded: Encoded | None = None
    states: Tensor | None = None
    mentions: tuple[Mention, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[Note, ...] = ()


class CaseReader:
    """The frozen front of a model: trunk, text encoder and graph, applied to one case at a time.

    `precision` is that of the large networks; what they give is float32 again. `batch_mib` is the memory of one pass
    that several cases share (see `medmm.passes`); 0: each case is looked at by itself.
    """

    def __init__(
        self,
        model: MultimodalModel,
        text_encoder: TextEncoder | LstmTextEncoder | None,
        graph: KnowledgeGraph | None,
        precision: Precision = "float32",
        batch_mib: float = 0,
    ) -> None:
        self.precision: Precision = precision
        self.model = model
        self.config = model.config
        self.rows_at_once = _rows_at_once(model, batch_mib) if batch_mib > 0 else None
        self.text_encoder = text_encoder
        self.graph = graph
        if text_encoder is not None and self.config.text is not None and text_encoder.width != self.config.text.width:
            raise UsageError(
                f"Expected a text encoder of width {self.config.text.width} (got {text_encoder.width}).",
                code="model.mismatch",
                remedy="Use the text encoder that the model was trained with.",
            )
        self.answers = answer_concepts(model.labels.tasks, graph) if graph is not None else frozenset()

    def read(self, case: Case) -> CaseView:
        """Return the case's features and what they were made from.

        Raises:
            InputError: Where a volume cannot be used (see `medmm.preprocess`).
        """
        return self.read_together([case])[0]

    @torch.no_grad()
    def read_together(self, cases: Sequence[Case]) -> list[CaseView]:
        """Return several cases read; trunk and image network look at them in shared passes where there is a budget.

        Raises:
            InputError: Where a volume of any of the cases cannot be used.
        """
        volumes = self._look_at_volumes([self._prepare_volume(case) for case in cases])
        images = self._look_at_images([self._prepare_images(case) for case in cases])
        return [self._view(case, *seen, *maps) for case, seen, maps in zip(cases, volumes, images, strict=True)]

    def size_of(self, case: Case) -> float:
        """Return the share of one pass that a case fills; 1 and more: it is looked at alone."""
        if self.rows_at_once is None:
            return 1.0
        if self.config.volume is not None:
            rows = 2 * count_slices(case.volumes, self.config.volume.preprocessing)  # each also mirrored
        elif self.config.images is not None:
            rows = count_images(case.volumes, self.config.images.preprocessing)
        else:
            rows = 0
        return rows / self.rows_at_once

    def _view(
        self,
        case: Case,
        prepared: PreparedVolume | None,
        seen: TrunkOutput | None,
        images: PreparedImages | None,
        maps: Tensor | None,
    ) -> CaseView:
        notes: list[Note] = [] if images is None else list(images.notes)
        report = case.report if case.report is not None and case.report.text.strip() else None
        encoded, states = self._text(report, notes)
        record = self._record(case.record, notes)
        view = CaseView(
            case=case,
            prepared=prepared,
            seen=seen,
            images=images,
            maps=maps,
            encoded=encoded,
            states=states,
            mentions=self.mentions(report),
            notes=tuple(notes),
            features=CaseFeatures(
                summary=self._summary(prepared, seen),
                images=self.pool(maps),
                text=self.sentences(states, encoded),
                record=record,
            ),
        )
        return self.consult_graph(view)

    @torch.no_grad()
    def consult_graph(self, view: CaseView) -> CaseView:
        """Return the view with evidence, subgraph and walk made (again) from its mentions and volume."""
        if self.graph is None or self.config.graph is None:
            return view
        evidence = self._evidence(view.mentions, view.seen, view.features.summary)
        starts = seeds(evidence, self.answers, self.graph)
        subgraph, walk = self.walk(starts)
        silent = (
            () if starts else (Note("kg.no_match", "Nothing of this case is in the knowledge graph: it had no say."),)
        )
        return replace(
            view,
            evidence=tuple(evidence),
            features=replace(
                view.features, subgraph=subgraph, walk=walk, sources=self.compare_sources(view.case.report)
            ),
            notes=tuple(dict.fromkeys([*view.notes, *silent])),
        )

    def mentions(self, report: Report | None) -> tuple[Mention, ...]:
        """Concepts that the linker finds in the report; none without a graph or a report."""
        if report is None or self.graph is None:
            return ()
        import kg

        return tuple(kg.link(report.text, self.graph))

    @torch.no_grad()
    def name_vectors(self, names: Sequence[str]) -> Tensor | None:
        """Return the text encoder's vector (N, S) of each name; None for a model that reads no text."""
        encoder = self.text_encoder
        return None if encoder is None else torch.stack([name_vector(encoder, name) for name in names])

    def walk(self, starts: dict[str, float]) -> tuple[Subgraph | None, dict[str, np.ndarray]]:
        """The subgraph around the seeds and the walk's score of each class; nothing without seeds."""
        if self.graph is None or self.config.graph is None or not starts:
            return None, {}
        scores = self.graph.personalised_pagerank(starts)
        subgraph = self.graph.subgraph(starts, self.config.graph.size)
        return subgraph, {task.name: walk_scores(scores, self.graph, task) for task in self.model.labels.fusion_tasks()}

    def compare_sources(self, report: Report | None) -> dict[str, np.ndarray]:
        """How well the report fits what the graph's sources say of each candidate (L,), by ranking task."""
        if report is None or self.text_encoder is None:
            return {}
        return {name: match.scores(report.text) for name, match in self._sources.items()}

    @cached_property
    def _sources(self) -> dict[str, SourceMatch]:
        graph = self.graph
        if graph is None or self.config.graph is None or not self.config.graph.sources:
            return {}
        return {
            task.name: source_match(graph, [(label.title, label.concept) for label in task.classes])
            for task in self.model.labels.fusion_tasks()
            if task.kind == "ranking"
        }

    def _prepare_volume(self, case: Case) -> PreparedVolume | None:
        if self.config.volume is None:
            return None
        return prepare_volume(case.volumes, self.config.volume.preprocessing)

    def _prepare_images(self, case: Case) -> PreparedImages | None:
        if self.config.images is None:
            return None
        return prepare_images(case.volumes, self.config.images.preprocessing)

    def _look_at_volumes(self, cases: Sequence[PreparedVolume | None]) -> list[_Seen]:
        inputs = [self._tensors(prepared) for prepared in cases if prepared is not None]
        if not inputs:
            return [(None, None)] * len(cases)
        with self._fast(inputs[0][0].device):
            if self.rows_at_once is None:
                seen = iter([look(self.model.trunk, *pair) for pair in inputs])
            else:
                seen = iter(look_together(self.model.trunk, inputs, self.rows_at_once))
        return [(prepared, None if prepared is None else next(seen)) for prepared in cases]

    def _tensors(self, prepared: PreparedVolume) -> tuple[Tensor, Tensor]:
        """Volume (1, C, D, H, W) and presence (1, C) on the trunk's device."""
        device = next(self.model.trunk.parameters()).device
        return torch.from_numpy(prepared.array)[None].to(device), torch.from_numpy(prepared.present)[None].to(device)

    def _summary(self, prepared: PreparedVolume | None, seen: TrunkOutput | None) -> VolumeSummary | None:
        return None if prepared is None or seen is None else summarise(seen, *self._tensors(prepared))

    def _look_at_images(self, cases: Sequence[PreparedImages | None]) -> list[_Mapped]:
        arrays = [torch.from_numpy(prepared.array) for prepared in cases if prepared is not None]
        if not arrays:
            return [(None, None)] * len(cases)
        if self.rows_at_once is None:
            maps = iter([self.look_at_images(array) for array in arrays])
        else:
            maps = iter([part[0] for part in in_passes(self._one_pass, arrays, self.rows_at_once)])
        return [(prepared, None if prepared is None else next(maps)) for prepared in cases]

    def _one_pass(self, images: Tensor) -> tuple[Tensor]:
        network = self.model.image_network
        device = next(network.parameters()).device
        with self._fast(device):
            return (network(images.to(device)).float(),)

    def look_at_images(self, array: Tensor) -> Tensor:
        """Return the feature maps (n, F, *s) of prepared images (n, 1, *S); gradients pass where they are on."""
        return torch.cat([self._one_pass(part)[0] for part in array.split(IMAGES_AT_ONCE)])

    def pool(self, maps: Tensor | None) -> Tensor | None:
        """Return the image vectors (N, P) that feature maps are pooled to."""
        if maps is None or self.config.images is None:
            return None
        return pool_maps(maps, self.config.images.grid)

    def sentences(self, states: Tensor | None, encoded: Encoded | None) -> Tensor | None:
        """Return the sentence vectors (T, S) that states of word pieces are pooled to."""
        if states is None or encoded is None or self.text_encoder is None:
            return None
        return self.text_encoder.sentences(states, encoded)

    def _text(self, report: Report | None, notes: list[Note]) -> tuple[Encoded | None, Tensor | None]:
        if report is None:
            return None, None
        if self.text_encoder is None:
            notes.append(
                Note(
                    "modality.missing", "This model was trained without reports: the report did not change the answer."
                )
            )
            return None, None
        encoded = self.text_encoder.encode(report.text)
        with self._fast(encoded.ids.device):
            return encoded, self.text_encoder.states(encoded).float()

    def _fast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def _record(self, record: Record | None, notes: list[Note]) -> tuple[float, ...] | None:
        if record is None or not self.config.record:
            return None
        values = encode_record(record, self.config.record)
        for item, value in zip(self.config.record, values, strict=True):
            if np.isnan(value) and item.name in record.values:
                notes.append(Note("record.value", f"The record's {item.name} is not usable and was left out."))
        return tuple(values)

    def _evidence(
        self, mentions: Sequence[Mention], seen: TrunkOutput | None, summary: VolumeSummary | None
    ) -> list[Evidence]:
        """Evidence from the report, if the model was trained with reports, and from what the trunk marks."""
        if self.graph is None:
            return []
        found = report_evidence(mentions, self.graph) if self.text_encoder is not None else []
        if self.config.volume is None or seen is None or summary is None:
            return found
        for row, region in enumerate(self.config.volume.regions):
            peak = float(seen.region_logits[:, row].sigmoid().max())
            if region.concept and peak > region.threshold:
                found.append(Evidence(concept=region.concept, weight=peak, origin="image"))
        if bool(summary.found[0]):
            found.extend(self._location_evidence(summary))
        return found

    def _location_evidence(self, summary: VolumeSummary) -> list[Evidence]:
        found = []
        for task in self.model.labels.location_tasks():
            chances = self.model.locations[task.name](summary.position).softmax(dim=1)[0]
            best = int(chances.argmax())
            if task.classes[best].concept:
                found.append(Evidence(concept=task.classes[best].concept, weight=float(chances[best]), origin="image"))
        return found


def _rows_at_once(model: MultimodalModel, batch_mib: float) -> int:
    config = model.config
    if config.volume is not None:
        spec = config.volume.preprocessing
        row = (len(spec.roles) * (NEIGHBOURS + 1), spec.size_pixels, spec.size_pixels)
        return rows_that_fit(model.trunk, row, batch_mib)
    if config.images is not None:
        return rows_that_fit(model.image_network, (1, *config.images.preprocessing.size_pixels), batch_mib)
    return 1


def collate(cases: Sequence[CaseFeatures], reader: CaseReader) -> ModelInputs:
    """Return a batch on the model's device. What no case has is left out; cases without a modality get empty rows."""
    present = torch.tensor([case.present for case in cases])
    known = torch.tensor([name in reader.config.modalities for name in MODALITIES])
    text = stack_vectors([case.text for case in cases])
    n_fields = len(reader.config.record)
    nan_row = (float("nan"),) * n_fields
    has_graph = reader.graph is not None and reader.config.graph is not None
    subgraphs = [case.subgraph for case in cases]
    return ModelInputs(
        present=present & known,
        volume=_stack_summaries([case.summary for case in cases]),
        images=stack_vectors([case.images for case in cases]),
        text=None if text is None else text.values,
        text_mask=None if text is None else text.mask,
        record=torch.tensor([case.record or nan_row for case in cases]) if n_fields else None,
        graph=graph_input(reader.graph, subgraphs) if has_graph and any(s is not None for s in subgraphs) else None,  # type: ignore[arg-type]  # has_graph says it is not None
        walk=_stack_walks(cases, reader) if has_graph else None,
        sources=_stack_sources(cases, reader) if has_graph and reader.config.graph.sources else None,  # type: ignore[union-attr]  # as above
    ).to(next(reader.model.parameters()).device)


def stack_vectors(rows: Sequence[Tensor | None]) -> Tokens | None:
    """Return vectors (N, P) of each case, padded to the most that one has; None where no case has any."""
    known = next((row for row in rows if row is not None), None)
    if known is None:
        return None
    filled = [known[:0].float().cpu() if row is None else row.float().cpu() for row in rows]
    values = pad_sequence(filled, batch_first=True)
    counts = torch.tensor([len(row) for row in filled])
    return Tokens(values, torch.arange(values.shape[1])[None] < counts[:, None])


def _stack_summaries(summaries: Sequence[VolumeSummary | None]) -> VolumeSummary | None:
    known = next((summary for summary in summaries if summary is not None), None)
    if known is None:
        return None
    depth = max(summary.slices.shape[1] for summary in summaries if summary is not None)

    def row(summary: VolumeSummary | None, name: str) -> Tensor:
        value = getattr(known if summary is None else summary, name).cpu()
        if name in ("slices", "slice_mask"):
            padding = [0, 0] * (value.ndim - 2) + [0, depth - value.shape[1]]
            value = torch.nn.functional.pad(value, padding)
        return torch.zeros_like(value) if summary is None else value

    return VolumeSummary(
        *(torch.cat([row(summary, name) for summary in summaries]) for name in VolumeSummary.__dataclass_fields__)
    )


def _stack_sources(cases: Sequence[CaseFeatures], reader: CaseReader) -> dict[str, Tensor]:
    return {
        task.name: torch.from_numpy(
            np.stack([case.sources.get(task.name, np.zeros(len(task.classes), np.float32)) for case in cases])
        )
        for task in reader.model.labels.fusion_tasks()
        if task.kind == "ranking"
    }


def _stack_walks(cases: Sequence[CaseFeatures], reader: CaseReader) -> dict[str, Tensor]:
    return {
        task.name: torch.from_numpy(
            np.stack([case.walk.get(task.name, np.zeros(len(task.classes), np.float32)) for case in cases])
        )
        for task in reader.model.labels.fusion_tasks()
    }
