"""The contract of every fusion, and what they share: one embedding a modality, and an answer to nothing.

Laws, held by tests for each kind: what an absent modality contains changes nothing; weights are exactly 0 where a
modality is absent and sum to 1 where any is present; batch equals single; gradients reach every present modality; with
nothing present the case is the learned prior. There is no layer normalisation on the way (see
`medmm.encoders.standard`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmm.encoders.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Fused:
    """`case` (B, F); `own` (B, M, F): each modality alone; `weights` (B, M) of the modalities in the case.

    `weights` is None for kinds that do not weigh modalities against each other.
    """

    case: Float[Tensor, "B F"]
    own: Float[Tensor, "B M F"]
    weights: Float[Tensor, "B M"] | None = None


class Fusion(nn.Module):
    """Pools each modality's tokens by attention to a learned query; a kind defines `join`."""

    def __init__(self, width: int, n_modalities: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(n_modalities, width) * 0.1)
        self.query = nn.Parameter(torch.randn(n_modalities, width) / width**0.5)
        self.nothing = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        tokens = [real_tokens(part, present[:, index]) for index, part in enumerate(tokens)]
        own = torch.stack([self.pool(index, part) for index, part in enumerate(tokens)], dim=1)  # (B, M, F)
        joined = self.join(own * present[..., None], tokens, present)
        anything = present.any(dim=1, keepdim=True)
        case = torch.where(anything, joined.case, torch.zeros_like(joined.case))
        return Fused(
            case=self.dropout(case + torch.where(anything, 0.0, 1.0) * self.nothing),
            own=joined.own,
            weights=joined.weights,
        )

    def join(self, own: Float[Tensor, "B M F"], tokens: list[Tokens], present: Bool[Tensor, "B M"]) -> Fused:
        """Bring the modalities together: `own` is 0 where absent, absent tokens are masked and 0."""
        raise NotImplementedError

    def pool(self, index: int, part: Tokens) -> Float[Tensor, "B F"]:
        """One embedding of a modality: its tokens weighed by their likeness to the modality's query."""
        logits = part.values @ self.query[index]
        weights = masked_softmax(logits, part.mask)
        return torch.einsum("bn,bnf->bf", weights, part.values) + self.kind[index]


def masked_softmax(logits: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Softmax over the unmasked entries; all 0 where there is none."""
    filled = logits.masked_fill(~mask, float("-inf")).masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
    return filled.softmax(dim=1).masked_fill(~mask, 0.0)


def real_tokens(part: Tokens, is_present: Bool[Tensor, " B"]) -> Tokens:
    """Only the tokens that count, others 0: a NaN behind a mask would come back as soon as 0 is multiplied by it."""
    mask = part.mask & is_present[:, None]
    return Tokens(part.values.masked_fill(~mask[..., None], 0.0), mask)


def by_modality(width: int, n_modalities: int) -> nn.Parameter:
    """One linear map (F, F) for each modality, started as `nn.Linear` starts."""
    bound = width**-0.5
    return nn.Parameter(torch.empty(n_modalities, width, width).uniform_(-bound, bound))
