"""The model: tokens of each modality, fusion, heads. Plain `nn.Module`s; training lives in `pipelines.training`.

trunk (volume) ─ summarise ─┐  (or: network (images) ─ pool)
text states ────────────────┤ tokens ─ fusion by name ─ heads + concept anchors ─┐
record values ──────────────┤          each modality's own heads ───────────────┤ mixed ─ logits of fusion tasks
subgraph, walk scores ──────┘                                                   ┘
logits of a ranking task ────── what is known of its candidates ─────────────── added to those of tasks that follow it
position of the region ─────── location heads ───────────────────────────────── logits of location tasks
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmm.config import MODALITIES, Labels, ModelConfig
from medmm.decision import TaskDecision
from medmm.encoders.graph import GraphEncoder, GraphInput
from medmm.encoders.image_networks import build_image_network
from medmm.encoders.images import ImageTokens
from medmm.encoders.record import RecordTokens
from medmm.encoders.text import TextTokens
from medmm.encoders.tokens import Tokens
from medmm.encoders.trunks import build_trunk
from medmm.encoders.volume import VolumeSummary, VolumeTokens, summary_widths
from medmm.following import FollowedRanking
from medmm.fusion.base import Fused
from medmm.fusion.kinds import fusion_kind
from medmm.location import LocationHead
from medmm.objectives.contrastive import JointSpace
from medmm.uncertainty import EnergyScore, OutOfDistributionScore


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """A batch of cases as the learned part sees them. `present` (B, 4) in the order of `MODALITIES`.

    `images` (B, N, P): vectors of each case's images. `text` (B, T, S) with `text_mask`; `record` (B, N), NaN where
    missing; `walk` maps a task to (B, L): how well a walk over the knowledge graph from the case's evidence reaches
    each class's concept. `sources` maps a ranking task to (B, L): how well the report fits what the graph's sources say
    of each candidate.
    """

    present: Bool[Tensor, "B 4"]
    volume: VolumeSummary | None = None
    images: Tokens | None = None
    text: Float[Tensor, "B T S"] | None = None
    text_mask: Bool[Tensor, "B T"] | None = None
    record: Float[Tensor, "B N"] | None = None
    graph: GraphInput | None = None
    walk: Mapping[str, Tensor] | None = None
    sources: Mapping[str, Tensor] | None = None

    def to(self, device: torch.device) -> "ModelInputs":
        """The same on another device."""

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device)

        return ModelInputs(
            present=self.present.to(device),
            volume=None if self.volume is None else self.volume.to(device),
            images=None if self.images is None else self.images.to(device),
            text=moved(self.text),
            text_mask=moved(self.text_mask),
            record=moved(self.record),
            graph=None if self.graph is None else self.graph.to(device),
            walk=None if self.walk is None else {name: value.to(device) for name, value in self.walk.items()},
            sources=None if self.sources is None else {name: value.to(device) for name, value in self.sources.items()},
        )

    def with_present(self, present: Bool[Tensor, "B 4"]) -> "ModelInputs":
        """The same contents with other modalities masked."""
        return replace(self, present=present)


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """`logits` by task (B, L); `own_logits` by task (B, M, L): each modality's own decision; what fusion did.

    What a ranking says of tasks that follow it is in `logits` alone.
    """

    logits: Mapping[str, Tensor]
    own_logits: Mapping[str, Tensor]
    fused: Fused | None


class MultimodalModel(nn.Module):
    """All learned parts of a model, built from its configuration."""

    def __init__(self, config: ModelConfig, labels: Labels) -> None:
        super().__init__()
        self.config, self.labels = config, labels
        width = config.width
        if config.volume is not None:
            n_sequences = len(config.volume.preprocessing.roles)
            volume = config.volume
            self.trunk = build_trunk(volume.trunk, n_sequences, len(volume.regions), volume.widths)
            self.volume_tokens = VolumeTokens(self.trunk.n_features, n_sequences, width, config.volume.tokens)
            self.ood = OutOfDistributionScore(summary_widths(self.trunk.n_features, n_sequences)[0])
        if config.images is not None:
            self.image_network = build_image_network(config.images.network, config.images.preprocessing.size_pixels)
            self.image_tokens = ImageTokens(self.image_network.width, width)
            self.ood = OutOfDistributionScore(self.image_network.width)
        if config.text is not None:
            self.text_tokens = TextTokens(config.text.width, width)
        if config.record:
            self.record_tokens = RecordTokens(config.record, width)
        if config.graph is not None:
            self.graph_encoder = GraphEncoder(width, n_layers=config.graph.n_layers, network=config.graph.network)
        if config.outlier == "energy":
            self.energy = EnergyScore()
        if config.joint_width is not None:
            self.joint = JointSpace(width, len(MODALITIES), config.joint_width)
        fusion = fusion_kind(config.fusion)
        self.fusion = fusion.build(width, len(MODALITIES))
        self.decisions = nn.ModuleDict(
            {
                task.name: TaskDecision(
                    task.kind,
                    width,
                    len(task.classes),
                    len(MODALITIES),
                    fusion.level,
                    is_proportional=task.hazards == "proportional",
                    text_width=None if config.text is None else config.text.width,
                    reads_sources=config.graph is not None and config.graph.sources,
                )
                for task in labels.fusion_tasks()
            }
        )
        self.locations = nn.ModuleDict(
            {task.name: LocationHead(len(task.classes), task.laterality) for task in labels.location_tasks()}
        )
        self.following = nn.ModuleDict(
            {
                task.name: FollowedRanking(len(labels.task(task.follows).classes), len(task.classes))
                for task in labels.fusion_tasks()
                if task.follows
            }
        )

    def forward(self, inputs: ModelInputs) -> ModelOutput:
        tokens = self.tokens(inputs)
        fused = self.fusion(tokens, inputs.present)
        text = None if inputs.text is None or inputs.text_mask is None else Tokens(inputs.text, inputs.text_mask)
        logits, own_logits = {}, {}
        for name, decision in self.decisions.items():
            walk = inputs.walk.get(name) if inputs.walk is not None else None
            sources = inputs.sources.get(name) if inputs.sources is not None else None
            logits[name], own_logits[name] = decision(fused, inputs.present, walk, text, sources)
        for name, followed in self.following.items():
            logits[name] = logits[name] + followed(logits[self.labels.task(name).follows])
        if inputs.volume is not None:
            for name, head in self.locations.items():
                logits[name] = head(inputs.volume.position)
        return ModelOutput(logits=logits, own_logits=own_logits, fused=fused)

    def tokens(self, inputs: ModelInputs) -> list[Tokens]:
        """Token sets in the order of `MODALITIES`; an empty one for what the model or the batch does not have."""
        nothing = Tokens(
            inputs.present.new_zeros(inputs.present.shape[0], 1, self.config.width, dtype=self.fusion.kind.dtype),
            inputs.present.new_zeros(inputs.present.shape[0], 1),
        )
        volume = nothing
        if inputs.volume is not None:
            volume = self.volume_tokens(inputs.volume)
        elif inputs.images is not None:
            volume = self.image_tokens(inputs.images)
        text = (
            self.text_tokens(inputs.text, inputs.text_mask)
            if inputs.text is not None and inputs.text_mask is not None
            else nothing
        )
        record = self.record_tokens(inputs.record) if inputs.record is not None else nothing
        graph = self.graph_encoder(inputs.graph) if inputs.graph is not None else nothing
        return [volume, text, record, graph]
