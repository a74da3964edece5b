"""Fusion of one embedding a modality: joined, weighed, multiplied."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medmm.encoders.tokens import Tokens
from medmm.fusion.base import Fused, Fusion, by_modality, masked_softmax


class ConcatFusion(Fusion):
    """Embeddings side by side, a learned one where a modality is absent, through two layers."""

    def __init__(self, width: int, n_modalities: int, *, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.absent = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.enter = by_modality(width, n_modalities)
        self.leave = nn.Linear(width, width)

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        filled = torch.where(present[..., None], own, self.absent)
        # One linear layer on the concatenation is the sum of one linear layer a modality.
        joined = torch.einsum("bmf,mfg->bg", filled, self.enter)
        return Fused(case=self.leave(functional.gelu(joined)), own=own)


class WeightedFusion(Fusion):
    """Average with one learned weight a modality, the same for every case."""

    def __init__(self, width: int, n_modalities: int, *, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.weight = nn.Parameter(torch.zeros(n_modalities))

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        weights = masked_softmax(self.weight.expand_as(present), present)
        return Fused(case=torch.einsum("bm,bmf->bf", weights, own), own=own, weights=weights)


class ProductFusion(Fusion):
    """Hadamard product of linear maps of the embeddings; an absent modality is the neutral factor 1."""

    def __init__(self, width: int, n_modalities: int, *, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.factor = by_modality(width, n_modalities)
        self.offset = nn.Parameter(torch.ones(n_modalities, width))
        self.leave = nn.Linear(width, width)

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        factors = torch.einsum("bmf,mfg->bmg", own, self.factor) + self.offset
        product = torch.where(present[..., None], factors, torch.ones_like(factors)).prod(dim=1)
        return Fused(case=self.leave(product), own=own)


class TensorFusion(Fusion):
    """Outer product of all embeddings (each with a 1 appended), in low rank; an absent modality is the neutral factor.

    Source: Liu et al., "Efficient low-rank multimodal fusion with modality-specific factors", ACL 2018, for the tensor
    of Zadeh et al., EMNLP 2017.
    """

    def __init__(self, width: int, n_modalities: int, *, rank: int = 3, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.factors = nn.Parameter(torch.randn(n_modalities, rank, width, width) * width**-0.5)
        self.offsets = nn.Parameter(torch.ones(n_modalities, rank, width))  # of the appended 1
        self.rank_weight = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(width))

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        factors = torch.einsum("bmf,mrfg->bmrg", own, self.factors) + self.offsets
        neutral = torch.where(present[..., None, None], factors, torch.ones_like(factors))
        product = neutral.prod(dim=1)  # (B, R, F)
        return Fused(case=torch.einsum("brf,r->bf", product, self.rank_weight) + self.bias, own=own)


class GatedFusion(Fusion):
    """A gate for each feature of each modality, opened by what all modalities say.

    Source: Arevalo et al., "Gated multimodal units for information fusion", 2017.
    """

    def __init__(self, width: int, n_modalities: int, *, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.content = by_modality(width, n_modalities)
        self.gate_input = nn.Parameter(torch.randn(n_modalities, width, width) * (n_modalities * width) ** -0.5)
        self.gate_bias = nn.Parameter(torch.zeros(n_modalities, width))

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        heard = torch.einsum("bmf,mfg->bg", own, self.gate_input)  # absent ones are 0
        gates = (heard[:, None] + self.gate_bias).sigmoid() * present[..., None]
        content = torch.einsum("bmf,mfg->bmg", own, self.content).tanh()
        return Fused(case=(gates * content).sum(dim=1), own=own)


class AttentionFusion(Fusion):
    """Average with weights that each case sets for itself, by softmax over its modalities.

    Source: attention pooling of Ilse et al., "Attention-based deep multiple instance learning", ICML 2018.
    """

    def __init__(self, width: int, n_modalities: int, *, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        weights = masked_softmax(self.score(self.hidden(own).tanh()).squeeze(-1), present)
        return Fused(case=torch.einsum("bm,bmf->bf", weights, own), own=own, weights=weights)


class LateFusion(Fusion):
    """Modalities meet only in the decision (`medmm.decision`); the case is their plain mean."""

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        return Fused(case=own.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp_min(1), own=own)
