"""Hybrid fusion: early (all tokens meet), intermediate (gated case embedding), late (decisions are mixed).

Laws, held by tests: what an absent modality contains changes nothing; its gate and its share of the decision are
exactly 0; batch equals single; with nothing present the answer is the learned prior.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmm.encoders.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Fused:
    """`case` (B, F); `own` (B, M, F): each modality alone; `gate` (B, M), sums to 1 where anything is present."""

    case: Float[Tensor, "B F"]
    own: Float[Tensor, "B M F"]
    gate: Float[Tensor, "B M"]


class HybridFusion(nn.Module):
    """Attention pooling per modality, cross-attention to all tokens, and a gate over modalities.

    There is no layer normalisation on the way (see `medmm.encoders.standard`).

    Source: gates after Arevalo et al., "Gated multimodal units", 2017; cross-attention after Vaswani et al., 2017.
    """

    def __init__(self, width: int, n_modalities: int, *, n_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.query = nn.Parameter(torch.randn(n_modalities, width) / width**0.5)
        self.cross = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.gate = nn.Linear(width, 1)
        self.absent = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.nothing = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        tokens = [_real(part, present[:, index]) for index, part in enumerate(tokens)]
        own = torch.stack([self._pool(index, part) for index, part in enumerate(tokens)], dim=1)  # (B, M, F)
        own = own * present[..., None]
        met = self._meet(own, tokens, present)
        logits = self.gate(met).squeeze(-1).masked_fill(~present, float("-inf"))
        anything = present.any(dim=1, keepdim=True)
        gate = torch.where(anything, logits.masked_fill(~anything, 0.0).softmax(dim=1), torch.zeros_like(logits))
        case = torch.einsum("bm,bmf->bf", gate, met) + torch.where(anything, 0.0, 1.0) * self.nothing
        return Fused(case=self.dropout(case), own=own, gate=gate)

    def _pool(self, index: int, part: Tokens) -> Float[Tensor, "B F"]:
        logits = (part.values @ self.query[index]).masked_fill(~part.mask, float("-inf"))
        empty = ~part.mask.any(dim=1, keepdim=True)
        weights = logits.masked_fill(empty, 0.0).softmax(dim=1).masked_fill(~part.mask, 0.0)
        return torch.einsum("bn,bnf->bf", weights, part.values) + self.kind[index]

    def _meet(
        self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B M F"]:
        """Each modality looks at the tokens of all present ones, and at a learned token for each absent one."""
        batch = present.shape[0]
        keys = torch.cat(
            [part.values + self.kind[index] for index, part in enumerate(tokens)] + [self.absent.expand(batch, -1, -1)],
            dim=1,
        )
        real = torch.cat([part.mask for part in tokens] + [~present], dim=1)
        keys = keys.masked_fill(~real[..., None], 0.0)
        # A present modality always has a token, so at least one key is real in every row.
        attended, _ = self.cross(own, keys, keys, key_padding_mask=~real, need_weights=False)
        return (own + attended) * present[..., None]


def _real(part: Tokens, is_present: Bool[Tensor, " B"]) -> Tokens:
    """Only the tokens that count, others 0: a NaN behind a mask would come back as soon as 0 is multiplied by it."""
    mask = part.mask & is_present[:, None]
    return Tokens(part.values.masked_fill(~mask[..., None], 0.0), mask)
