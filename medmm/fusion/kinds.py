"""Every kind of fusion by name: how modalities are joined, and what the decision is made from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from medmm.errors import UsageError
from medmm.fusion.base import Fusion
from medmm.fusion.hybrid import HybridFusion
from medmm.fusion.pooled import (
    AttentionFusion,
    ConcatFusion,
    GatedFusion,
    LateFusion,
    ProductFusion,
    TensorFusion,
    WeightedFusion,
)
from medmm.fusion.tokenwise import CrossAttentionFusion, EarlyFusion

# From the case embedding; from each modality's own decision, averaged or with learned weights; or from both.
DecisionLevel = Literal["joint", "mean", "learned", "both"]


@dataclass(frozen=True, slots=True)
class FusionKind:
    """A fusion by name. `level` says what the decision of a task is made from."""

    build: Callable[[int, int], Fusion]
    level: DecisionLevel = "joint"


def fusion_kind(name: str) -> FusionKind:
    """Return a kind of fusion.

    Raises:
        UsageError: `model.mismatch` for a name that is not in `FUSIONS`.
    """
    if name not in FUSIONS:
        raise UsageError(f"Expected a fusion of {', '.join(FUSIONS)} (got {name!r}).", code="model.mismatch")
    return FUSIONS[name]


FUSIONS: dict[str, FusionKind] = {
    "early": FusionKind(EarlyFusion),
    "concat": FusionKind(ConcatFusion),
    "weighted": FusionKind(WeightedFusion),
    "product": FusionKind(ProductFusion),
    "tensor": FusionKind(TensorFusion),
    "gated": FusionKind(GatedFusion),
    "attention": FusionKind(AttentionFusion),
    "cross_attention": FusionKind(CrossAttentionFusion),
    "late": FusionKind(LateFusion, "learned"),
    "late_mean": FusionKind(LateFusion, "mean"),
    "hybrid": FusionKind(HybridFusion, "both"),
}
