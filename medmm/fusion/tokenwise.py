"""Fusion of token sets: modalities meet before anything is pooled."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmm.encoders.tokens import Tokens
from medmm.fusion.base import Fused, Fusion, masked_softmax


class EarlyFusion(Fusion):
    """All tokens in one sequence, as if they were one input: self-attention, then pooling by one query.

    A modality's weight is the share of the pooling that its tokens get.
    """

    def __init__(self, width: int, n_modalities: int, *, n_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.attention = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)
        self.case_query = nn.Parameter(torch.randn(width) / width**0.5)

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        values = torch.cat([part.values + self.kind[index] for index, part in enumerate(tokens)], dim=1)
        mask = torch.cat([part.mask for part in tokens], dim=1)
        values = values.masked_fill(~mask[..., None], 0.0)
        # Where nothing is real, attend to the zeros: the result is replaced by the prior.
        hidden = ~mask & mask.any(dim=1, keepdim=True)
        attended, _ = self.attention(values, values, values, key_padding_mask=hidden, need_weights=False)
        states = values + attended
        states = states + self.contract(nn.functional.gelu(self.expand(states)))
        share = masked_softmax(states @ self.case_query, mask)
        parts = share.split([part.values.shape[1] for part in tokens], dim=1)
        return Fused(
            case=torch.einsum("bn,bnf->bf", share, states),
            own=own,
            weights=torch.stack([part.sum(dim=1) for part in parts], dim=1),
        )


class CrossAttentionFusion(Fusion):
    """Co-attention: the tokens of each modality look at those of the others, then are pooled and averaged.

    A learned token stands for each absent modality, so that a modality alone has something to look at.

    Source: Lu et al., "ViLBERT", NeurIPS 2019, for the exchange of keys and values between modalities.
    """

    def __init__(self, width: int, n_modalities: int, *, n_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(width, n_modalities, dropout=dropout)
        self.cross = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.absent = nn.Parameter(torch.randn(n_modalities, width) * 0.1)

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        named = [
            Tokens((part.values + kind) * part.mask[..., None], part.mask)
            for part, kind in zip(tokens, self.kind, strict=True)
        ]
        pooled = [self.pool(index, self._look(index, named, present)) for index in range(len(named))]
        met = torch.stack(pooled, dim=1) * present[..., None]
        return Fused(case=met.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp_min(1), own=own)

    def _look(self, index: int, tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Tokens:
        """A modality's tokens after looking at all the others'."""
        mine = tokens[index]
        others = [part for other, part in enumerate(tokens) if other != index]
        batch = present.shape[0]
        keys = torch.cat([part.values for part in others] + [self.absent.expand(batch, -1, -1)], dim=1)
        # Where all modalities are present no learned token is needed, but the own one never hurts: no row is empty.
        usable = ~present
        usable = torch.cat([usable[:, :index], torch.ones_like(usable[:, :1]), usable[:, index + 1 :]], dim=1)
        real = torch.cat([part.mask for part in others] + [usable], dim=1)
        attended, _ = self.cross(mine.values, keys, keys, key_padding_mask=~real, need_weights=False)
        return Tokens((mine.values + attended) * mine.mask[..., None], mine.mask)
