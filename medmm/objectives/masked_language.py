"""Adapting a text encoder to the user's own reports: hidden word pieces are guessed from what stands around them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medmm.encoders.text import TextEncoder

IGNORED = -100  # cross-entropy's own mark for positions that do not count


@dataclass(frozen=True, slots=True)
class MaskedPieces:
    """`ids` (W, T) with some pieces hidden; `target` (W, T): what they were, -100 elsewhere."""

    ids: Int[Tensor, "W T"]
    target: Int[Tensor, "W T"]


def mask_pieces(
    ids: Int[Tensor, "W T"],
    is_special: Tensor,
    mask_id: int,
    n_pieces: int,
    generator: torch.Generator,
    share: float = 0.15,
) -> MaskedPieces:
    """Hide a share of the pieces: 80 % become the mask, 10 % another piece, 10 % stay (Devlin et al., BERT, 2019)."""
    chosen = (torch.rand(ids.shape, generator=generator) < share) & ~is_special
    how = torch.rand(ids.shape, generator=generator)
    others = torch.randint(n_pieces, ids.shape, generator=generator)
    hidden = torch.where(chosen & (how < 0.8), mask_id, torch.where(chosen & (how >= 0.9), others, ids))
    return MaskedPieces(hidden, torch.where(chosen, ids, IGNORED))


class MaskedLanguage(nn.Module):
    """The guess of a hidden piece: its state against the encoder's own word embeddings (tied weights)."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.transform = nn.Sequential(nn.Linear(encoder.width, encoder.width), nn.GELU(), nn.LayerNorm(encoder.width))
        self.bias = nn.Parameter(torch.zeros(len(self._words)))

    def forward(self, ids: Int[Tensor, "W T"], mask: Int[Tensor, "W T"]) -> Float[Tensor, "W T V"]:
        states = self.encoder.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.transform(states) @ self._words.T + self.bias

    @property
    def _words(self) -> Float[Tensor, "V F"]:
        return self.encoder.network.get_input_embeddings().weight  # type: ignore[return-value]  # an embedding's weight

    def loss(self, text: str, generator: torch.Generator) -> Float[Tensor, ""]:
        """Cross-entropy of the hidden pieces of a report; 0 where none was hidden."""
        encoded = self.encoder.encode(text)
        tokenizer = self.encoder.tokenizer
        masked = mask_pieces(encoded.ids, encoded.sentence < 0, tokenizer.mask_token_id, len(tokenizer), generator)
        logits = self(masked.ids, encoded.mask)
        if not bool((masked.target != IGNORED).any()):
            return logits.sum() * 0
        return functional.cross_entropy(logits.flatten(0, 1), masked.target.flatten(), ignore_index=IGNORED)
