"""Heads: from a case embedding to the logits of a task, and from logits to probabilities.

Every head gives class logits (B, L), whatever its kind, so that calibration, conformal sets and explanations treat all
tasks alike: softmax for one-of-L tasks (ordinal, survival and ranking ones included), sigmoid for multi-label tasks.
`ValueHead`, a piece for training loops of one's own, gives a number and its variance instead.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medmm.results import TaskKind
from medmm.survival import HazardHead, ProportionalHazardHead, survival_loss

CLASS_KINDS: tuple[TaskKind, ...] = ("exclusive", "ordinal", "multilabel", "survival", "ranking", "regression")


class ExclusiveHead(nn.Module):
    """One score a class."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, n_classes)

    def forward(self, embedding: Float[Tensor, "B F"]) -> Float[Tensor, "B L"]:
        return self.score(embedding)


class OrdinalHead(nn.Module):
    """One score and L-1 ordered thresholds (cumulative link model, McCullagh 1980), as log-probabilities of classes."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.first = nn.Parameter(torch.tensor(-0.5 * (n_classes - 2)))
        self.steps = nn.Parameter(torch.zeros(n_classes - 2))

    def forward(self, embedding: Float[Tensor, "B F"]) -> Float[Tensor, "B L"]:
        thresholds = self.first + torch.cat([self.first.new_zeros(1), functional.softplus(self.steps).cumsum(0)])
        beyond = self.score(embedding) - thresholds  # (B, L-1): logit of P(class > l)
        above, below = functional.logsigmoid(beyond), functional.logsigmoid(-beyond)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), and a - b is the softplus of a step; the
        # difference itself would round to 0, and stop learning, where the head is sure and wrong.
        between = above[:, :-1] + below[:, 1:] + functional.logsigmoid(self.steps)
        return torch.cat([below[:, :1], between, above[:, -1:]], dim=1)


class NoClassHead(nn.Module):
    """Says nothing of any class: where candidates are known by their concepts only, the anchor and the walk decide."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, embedding: Float[Tensor, "B F"]) -> Float[Tensor, "B L"]:
        return embedding.new_zeros(embedding.shape[0], self.n_classes)


class ValueHead(nn.Module):
    """A number and the log of its variance, both in units of the training cases' mean and deviation (regression)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 2)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))

    @torch.no_grad()
    def fit(self, values: Float[Tensor, " N"]) -> None:
        """Set mean and deviation from the training cases.

        Raises:
            ValueError: There are fewer than two, which have no deviation.
        """
        if len(values) < 2:
            raise ValueError(f"Expected at least two values to take a deviation of (got {len(values)}).")
        self.mean.copy_(values.mean())
        self.deviation.copy_(values.std().clamp_min(1e-6))

    def forward(self, embedding: Float[Tensor, "B F"]) -> Float[Tensor, "B 2"]:
        return self.score(embedding)

    def value(self, output: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """The expected value in its own unit."""
        return self.mean + self.deviation * output[:, 0]

    def loss(self, output: Float[Tensor, "B 2"], target: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        """Gaussian negative log-likelihood over the cases with a known value (NaN is unknown): Nix and Weigend 1994."""
        known = ~target.isnan()
        if not known.any():
            return output.sum() * 0
        standard = (target[known] - self.mean) / self.deviation
        mean, log_variance = output[known].unbind(dim=1)
        return 0.5 * (log_variance + (standard - mean).square() * torch.exp(-log_variance)).mean()


class ConceptAnchor(nn.Module):
    """Similarity of the case to each class's concept in the knowledge graph.

    The class enters only through its concept's vector, so a class that training never saw can be scored.
    """

    def __init__(self, width: int, concept_width: int, anchor_width: int = 24) -> None:
        super().__init__()
        self.case = nn.Linear(width, anchor_width)
        self.concept = nn.Linear(concept_width, anchor_width)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, embedding: Float[Tensor, "B F"], concepts: Float[Tensor, "L K"]) -> Float[Tensor, "B L"]:
        left = functional.normalize(self.case(embedding), dim=1)
        right = functional.normalize(self.concept(concepts), dim=1)
        return self.scale * left @ right.T


def build_head(kind: TaskKind, width: int, n_classes: int, *, is_proportional: bool = False) -> nn.Module:
    """Return the head of a kind; numbers (regression) are bins in order, survival can have proportional hazards.

    Raises:
        ValueError: If no head of that kind exists.
    """
    if kind in ("exclusive", "multilabel"):
        return ExclusiveHead(width, n_classes)
    if kind in ("ordinal", "regression"):
        return OrdinalHead(width, n_classes)
    if kind == "survival":
        return ProportionalHazardHead(width, n_classes) if is_proportional else HazardHead(width, n_classes)
    if kind == "ranking":
        return NoClassHead(n_classes)
    raise ValueError(f"Expected a task kind of {', '.join(CLASS_KINDS)} (got {kind!r}).")


def probabilities(logits: Float[Tensor, "B L"], kind: TaskKind, temperature: float = 1.0) -> Float[Tensor, "B L"]:
    """Return class probabilities from logits divided by a temperature (Guo et al., ICML 2017)."""
    scaled = logits.float() / temperature
    return scaled.sigmoid() if kind == "multilabel" else scaled.softmax(dim=1)


def pooled_logits(logits: Sequence[Float[Tensor, "B L"]], kind: TaskKind) -> Float[Tensor, "B L"]:
    """Return the logits whose probabilities are the mean of those of an ensemble's members."""
    if len(logits) == 1:
        return logits[0]
    mean = torch.stack([probabilities(one.double(), kind).double() for one in logits]).mean(dim=0)
    return torch.logit(mean, eps=1e-12) if kind == "multilabel" else mean.clamp_min(1e-12).log()


def task_loss(logits: Float[Tensor, "B L"], target: Tensor, kind: TaskKind, weights: Tensor) -> Float[Tensor, ""]:
    """Mean loss over the cases with a known label.

    Args:
        logits: Class logits.
        target: (B,) class index with -1 where unknown; (B, L) of 0/1 with -1 where unknown for multi-label tasks;
            (B, 2) for survival tasks, see `medmm.survival.survival_loss`.
        kind: The task's kind.
        weights: (L,) weight of each class, for imbalance (of its positive cases for multi-label tasks).
    """
    if kind == "survival":
        return survival_loss(logits, target)
    if kind == "multilabel":
        known = target >= 0
        loss = functional.binary_cross_entropy_with_logits(
            logits, target.clamp_min(0).float(), pos_weight=weights, reduction="none"
        )
        return (loss * known).sum() / known.sum().clamp_min(1)
    if not (target >= 0).any():
        return logits.sum() * 0
    return functional.cross_entropy(logits, target, weight=weights, ignore_index=-1)
