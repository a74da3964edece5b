"""Hybrid fusion: early (all tokens meet), intermediate (gated case embedding), late (decisions are mixed)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmm.encoders.tokens import Tokens
from medmm.fusion.base import Fused, Fusion, masked_softmax


class HybridFusion(Fusion):
    """Attention pooling per modality, cross-attention to all tokens, and a gate over modalities.

    Source: gates after Arevalo et al., "Gated multimodal units", 2017; cross-attention after Vaswani et al., 2017.
    """

    def __init__(self, width: int, n_modalities: int, *, n_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.cross = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.gate = nn.Linear(width, 1)
        self.absent = nn.Parameter(torch.randn(n_modalities, width) * 0.1)

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        met = self._meet(own, tokens, present)
        weights = masked_softmax(self.gate(met).squeeze(-1), present)
        return Fused(case=torch.einsum("bm,bmf->bf", weights, met), own=own, weights=weights)

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
