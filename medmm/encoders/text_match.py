"""How near a report lies to the names of candidates in the text encoder's own space, before anything is learned.

Both sides lose what all share (the mean training sentence, the mean candidate): what is left tells cases and candidates
apart. Source: sentence embeddings compared by cosine (Reimers and Gurevych, EMNLP 2019), centred as in Mu and
Viswanath, "All-but-the-top", ICLR 2018.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medmm.encoders.tokens import Tokens

# Cosines differ by some 0.1 among candidates; as logits of one modality among several they have to differ by more.
_SHARPNESS = 16.0


class TextMatch(nn.Module):
    """Weighted cosine of the whole report, and of its nearest sentence, with each candidate's name."""

    usual: Tensor
    names: Tensor

    def __init__(self, text_width: int, n_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))  # whole, nearest sentence
        self.register_buffer("usual", torch.zeros(text_width))
        self.register_buffer("names", torch.zeros(n_classes, text_width))

    @torch.no_grad()
    def fit(self, names: Float[Tensor, "L S"], sentences: Float[Tensor, "N S"]) -> None:
        """Set the candidates' vectors and the mean training sentence."""
        self.usual.copy_(sentences.mean(dim=0))
        self.names.copy_(names)

    def forward(self, text: Tokens, names: Float[Tensor, "V S"]) -> Float[Tensor, "B V"]:
        """Scores of candidates by the vectors of their names; 0 for a case without sentences."""
        wanted = functional.normalize(names - names.mean(dim=0), dim=1)
        real = text.mask[..., None]
        sentences = torch.where(real, text.values - self.usual, torch.zeros_like(text.values))  # (B, T, S)
        whole = functional.normalize(sentences.sum(dim=1), dim=1) @ wanted.T
        near = functional.normalize(sentences, dim=2) @ wanted.T  # (B, T, V)
        has_text: Bool[Tensor, "B 1"] = text.mask.any(dim=1, keepdim=True)
        nearest = near.masked_fill(~real, -1.0).amax(dim=1).masked_fill(~has_text, 0.0)
        return _SHARPNESS * (self.weight[0] * whole + self.weight[1] * nearest)
