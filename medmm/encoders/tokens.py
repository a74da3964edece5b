"""The contract of every encoder: a batch of token sets."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """`values` (B, N, F) and which of them are real: `mask` (B, N). Rows of an absent modality have no real token."""

    values: Float[Tensor, "B N F"]
    mask: Bool[Tensor, "B N"]

    def to(self, device: torch.device) -> "Tokens":
        """The same on another device."""
        return Tokens(self.values.to(device), self.mask.to(device))
