"""A question that follows from a ranking: where its classes group the candidates, the ranking answers it, too.

Diagnoses are ranked by what is known of each, also those that no training case has; of what kind each is, and where it
lies, is known or can be told from its name. P(class) = sum over candidates of P(candidate) P(class | candidate). With
its logarithm added to the task's own logits this is a logarithmic opinion pool (Genest and Zidek, Statistical Science
1986).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# Before training, which hardly moves them in few steps; chosen on training cases of MedPix.
_WEIGHT, _SHARPNESS = 1.0, 1.3
_FLOOR = 1e-3  # no class is ruled out by what is known of the candidates


class FollowedRanking(nn.Module):
    """What a ranking says of each class, to be added to the logits of the task that follows it.

    `classes_of` (V, L) holds the chances of each class given a candidate. Before it is set they are alike, and nothing
    is said. Weight and sharpness stay above 0: a ranking can be ignored, not turned round.
    """

    classes_of: Tensor

    def __init__(self, n_candidates: int, n_classes: int) -> None:
        super().__init__()
        self.raw_weight = nn.Parameter(_before_softplus(_WEIGHT))
        self.raw_sharpness = nn.Parameter(_before_softplus(_SHARPNESS))
        self.register_buffer("classes_of", torch.full((n_candidates, n_classes), 1 / n_classes))

    @property
    def weight(self) -> Float[Tensor, ""]:
        """How much the ranking counts beside the task's own decision."""
        return functional.softplus(self.raw_weight)

    def forward(self, ranked: Float[Tensor, "B V"]) -> Float[Tensor, "B L"]:
        return self.weight * (self.chances(ranked) @ self.classes_of + _FLOOR).log()

    def chances(self, ranked: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """How likely each candidate is, from the logits of the ranking."""
        return (functional.softplus(self.raw_sharpness) * ranked).softmax(dim=1)


def _before_softplus(value: float) -> Tensor:
    """What `softplus` turns into `value`."""
    return torch.tensor(value).expm1().log()
