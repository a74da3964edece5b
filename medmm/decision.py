"""The decision on one task: a head on the case, a head on each modality, the concept anchor, and a mix of them."""

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmm.config import MODALITIES
from medmm.encoders.names import NAME_WIDTH
from medmm.encoders.text_match import TextMatch
from medmm.encoders.tokens import Tokens
from medmm.fusion.base import Fused, masked_softmax
from medmm.fusion.kinds import DecisionLevel
from medmm.heads import ConceptAnchor, build_head
from medmm.hierarchy import as_buffer, constrain
from medmm.results import TaskKind

CONCEPT_WIDTH = 2 * NAME_WIDTH
TEXT, GRAPH = MODALITIES.index("text"), MODALITIES.index("graph")
# Deviations among the candidates to logits of one modality among several; few steps of training hardly move it.
# Chosen on training cases of MedPix.
_SOURCE_WEIGHT = 2.5


class TaskDecision(nn.Module):
    """One fusion task. The graph's walk speaks for classes, and in ranking tasks the text for names that it is near.

    `level` "joint": the decision is that of the case embedding; "mean" and "learned": of each present modality, with
    equal or learned weights; "both": of all of them. With nothing present the case embedding, then the prior, decides.
    """

    concepts: Tensor
    mix: Tensor
    is_below: Tensor

    def __init__(
        self,
        kind: TaskKind,
        width: int,
        n_classes: int,
        n_modalities: int = 4,
        level: DecisionLevel = "both",
        *,
        is_proportional: bool = False,
        text_width: int | None = None,
        reads_sources: bool = False,
    ) -> None:
        super().__init__()
        self.kind: TaskKind = kind
        self.level: DecisionLevel = level
        build = partial(build_head, kind, width, n_classes, is_proportional=is_proportional)
        self.fused = build()
        self.own = nn.ModuleList([build() for _ in range(n_modalities)])
        self.anchor = ConceptAnchor(width, CONCEPT_WIDTH)
        mix = torch.zeros(1 + n_modalities)
        if level in ("learned", "both"):
            self.mix = nn.Parameter(mix)
        else:
            self.register_buffer("mix", mix)  # equal shares
        self.walk_weight = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("concepts", torch.zeros(n_classes, CONCEPT_WIDTH))
        self.match = TextMatch(text_width, n_classes) if kind == "ranking" and text_width is not None else None
        if kind == "ranking" and reads_sources:
            self.source_weight = nn.Parameter(torch.tensor(_SOURCE_WEIGHT))
        if kind == "multilabel":
            self.register_buffer("is_below", as_buffer(n_classes))

    def forward(
        self,
        fused: Fused,
        present: Bool[Tensor, "B M"],
        walk: Float[Tensor, "B L"] | None,
        text: Tokens | None = None,
        sources: Float[Tensor, "B L"] | None = None,
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B M L"]]:
        if self.kind == "ranking":
            match = None
            if self.match is not None and text is not None:
                is_real = text.mask & present[:, TEXT, None]
                match = self.match(Tokens(text.values, is_real), self.match.names)
            return self.rank(fused, present, self.concepts, walk, match, sources)
        joint = self.fused(fused.case) + self.anchor(fused.case, self.concepts)
        own = torch.stack([head(fused.own[:, index]) for index, head in enumerate(self.own)], dim=1)
        logits, own = self._mixed(joint, own, present, walk)
        if self.kind == "multilabel":
            logits, own = constrain(logits, self.is_below), constrain(own, self.is_below)
        return logits, own

    def rank(
        self,
        fused: Fused,
        present: Bool[Tensor, "B M"],
        concepts: Float[Tensor, "V K"],
        walk: Float[Tensor, "B V"] | None,
        match: Float[Tensor, "B V"] | None = None,
        sources: Float[Tensor, "B V"] | None = None,
    ) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B M V"]]:
        """Score any candidates by their concepts' vectors, also ones that training never saw (open vocabulary).

        `match`: what `TextMatch` says of the candidates' names; `sources`: what `SourceMatch` says of the candidates.
        """
        joint = self.anchor(fused.case, concepts)
        own = self.anchor(fused.own.flatten(0, 1), concepts).unflatten(0, fused.own.shape[:2])
        if match is not None:
            joint, own = self._said(joint, own, present, match, TEXT)
        if sources is not None:
            joint, own = self._said(joint, own, present, self.source_weight * sources, GRAPH)
        return self._mixed(joint, own, present, walk)

    def _said(
        self,
        joint: Float[Tensor, "B L"],
        own: Float[Tensor, "B M L"],
        present: Bool[Tensor, "B M"],
        said: Float[Tensor, "B L"],
        modality: int,
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B M L"]]:
        """Both decisions with what a modality says of the classes besides its embedding."""
        is_it = torch.arange(own.shape[1], device=own.device) == modality
        own = own + said[:, None] * is_it[:, None]
        if self.level == "joint":
            joint = joint + said * present[:, modality, None]
        return joint, own

    def _mixed(
        self,
        joint: Float[Tensor, "B L"],
        own: Float[Tensor, "B M L"],
        present: Bool[Tensor, "B M"],
        walk: Float[Tensor, "B L"] | None,
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B M L"]]:
        if walk is not None:
            joint, own = self._said(joint, own, present, self.walk_weight * walk, GRAPH)
        weights = self.weights(present)
        logits = weights[:, :1] * joint + torch.einsum("bm,bml->bl", weights[:, 1:], own)
        return logits, own

    def weights(self, present: Bool[Tensor, "B M"]) -> Float[Tensor, "B K"]:
        """Shares (B, 1 + M) of the joint decision and of each modality's own; they sum to 1."""
        nothing = ~present.any(dim=1, keepdim=True)
        if self.level == "joint":
            usable = torch.cat([torch.ones_like(nothing), torch.zeros_like(present)], dim=1)
        elif self.level == "both":
            usable = torch.cat([torch.ones_like(nothing), present], dim=1)
        else:
            usable = torch.cat([nothing, present], dim=1)
        return masked_softmax(self.mix.expand_as(usable), usable)
