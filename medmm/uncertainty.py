"""What the model does not know: temperature, conformal prediction sets, distance from the training cases."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from medmm.results import MAX_LISTED

SetKind = Literal["lac", "aps", "raps"]
OOD_COMPONENTS = 8
OOD_QUANTILE = 0.975


def fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the temperature with the lowest cross-entropy on held-out cases (Guo et al., ICML 2017); 1 without any.

    Args:
        logits: (N, L), from models that did not see the case.
        target: (N,) class indices; (N, L) of 0/1 with -1 where unknown for multi-label tasks.
    """
    if len(target) == 0 or (target.ndim == 2 and not (target >= 0).any()):
        return 1.0
    scores, truth = torch.from_numpy(logits).double(), torch.from_numpy(target)

    def loss(log_temperature: float) -> float:
        scaled = scores / math.exp(log_temperature)
        if truth.ndim == 1:
            return float(nn.functional.cross_entropy(scaled, truth.long()))
        known = truth >= 0
        return float(nn.functional.binary_cross_entropy_with_logits(scaled[known], truth[known].double()))

    return float(math.exp(minimize_scalar(loss, bounds=(-2.0, 3.0), method="bounded").x))


@dataclass(frozen=True, slots=True)
class SetRule:
    """How a conformal prediction set is made: a class is in it when its score does not exceed the quantile.

    `lac`: 1 - its probability; the smallest sets on average (Sadinle, Lei, Wasserman, JASA 2019). `aps`: the
    probability of all classes at least as likely as it; larger sets for harder cases (Romano, Sesia, Candes, NeurIPS
    2020). `raps`: that plus `penalty` for each rank beyond `n_free`, against long tails (Angelopoulos et al., ICLR
    2021). The same case always gets the same set: nothing is drawn at random, as the papers do to make sets smaller.
    """

    kind: SetKind = "lac"
    penalty: float = 0.0
    n_free: int = 1

    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Return float64 (N, L): how little each class conforms."""
        values = probabilities.astype(np.float64)
        if self.kind == "lac":
            return 1 - values
        order = np.argsort(-values, axis=1, kind="stable")
        mass = np.take_along_axis(values, order, axis=1).cumsum(axis=1)
        if self.kind == "raps":
            mass = mass + self.penalty * np.maximum(0, np.arange(1, values.shape[1] + 1) - self.n_free)
        scores = np.empty_like(values)
        np.put_along_axis(scores, order, mass, axis=1)
        return scores


LAC = SetRule()


def conformal_quantile(probabilities: np.ndarray, target: np.ndarray, coverage: float, rule: SetRule = LAC) -> float:
    """Return the quantile of the true class's score that gives sets of the stated coverage on exchangeable cases.

    The rank is ceil((n + 1) coverage), as split conformal prediction needs; where n is too small for the coverage, the
    largest score there is: every class.

    Args:
        probabilities: (N, L), calibrated, from models that did not see the case.
        target: (N,) class indices.
        coverage: Between 0 and 1.
        rule: What the score is.
    """
    scores = np.sort(rule.scores(probabilities)[np.arange(len(target)), target])
    rank = math.ceil((len(scores) + 1) * coverage)
    n_classes = probabilities.shape[1]
    everything = 1.0 if rule.kind != "raps" else 1.0 + rule.penalty * max(0, n_classes - rule.n_free)
    return everything + (rule.kind != "lac") * 1e-9 if rank > len(scores) else float(scores[rank - 1])


def label_thresholds(probabilities: np.ndarray, target: np.ndarray, coverage: float) -> tuple[float, ...]:
    """Return for each class of a multi-label task the probability from which it is said.

    Of the cases that have a finding, the stated share is at or above it (conformal in each class: Vovk, ACML 2012); 0,
    always said, where too few cases have it.

    Args:
        probabilities: (N, L), calibrated, from models that did not see the case.
        target: (N, L) of 0/1, -1 where unknown.
        coverage: Between 0 and 1.
    """
    found = []
    for column, truth in zip(probabilities.T.astype(np.float64), target.T, strict=True):
        scores = np.sort(1 - column[truth == 1])
        rank = math.ceil((len(scores) + 1) * coverage)
        found.append(0.0 if rank > len(scores) else float(1 - scores[rank - 1]))
    return tuple(found)


def min_confidence(probabilities: np.ndarray, target: np.ndarray, accuracy: float) -> float:
    """Return the lowest confidence above which held-out cases were right at least as often as `accuracy`.

    Returns:
        Between 0 and 1; 1 where no confidence is enough, so that only certainty speaks.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == target)[order].cumsum() / np.arange(1, len(target) + 1)
    # Cases of equal confidence are answered together or not at all.
    is_last = np.append(np.diff(confidence[order]) != 0, True)
    enough = np.flatnonzero((right >= accuracy) & is_last)
    return float(confidence[order][enough[-1]]) if len(enough) else 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said aloud: the classes that cannot be excluded, and whether that is an answer."""

    prediction_set: tuple[str, ...]
    abstained: bool
    reason: str


def decide(
    names: list[str],
    titles: list[str],
    values: np.ndarray,
    quantile: float,
    coverage: float,
    *,
    rule: SetRule = LAC,
    max_set_size: int = 1,
) -> Decision:
    """Return the prediction set of one-of-L probabilities (L,); abstain if it holds more than `max_set_size` classes.

    The most probable class is always in the set, which can only raise the coverage.
    """
    best = int(values.argmax())
    scores = rule.scores(values[None])[0]
    inside = [index for index, score in enumerate(scores) if score <= quantile or index == best]
    chosen = tuple(names[index] for index in inside)
    if len(inside) <= max_set_size:
        return Decision(chosen, False, "")
    return Decision(chosen, True, f"At {coverage:.0%} coverage {_listed(titles, values, inside)} cannot be told apart.")


def _listed(titles: list[str], values: np.ndarray, inside: list[int]) -> str:
    """The classes of a set; of a long one the most probable."""
    if len(inside) <= MAX_LISTED:
        return ", ".join(titles[index] for index in inside[:-1]) + f" and {titles[inside[-1]]}"
    best = sorted(inside, key=lambda index: -values[index])[:3]
    return f"{len(inside)} answers (first {', '.join(titles[index] for index in best)})"


def decide_labels(names: list[str], values: np.ndarray, thresholds: tuple[float, ...]) -> Decision:
    """Return the classes of a multi-label task whose probability reaches their threshold (one half without any)."""
    limits = thresholds or (0.5,) * len(names)
    chosen = tuple(name for name, value, limit in zip(names, values, limits, strict=True) if value >= limit)
    return Decision(chosen, False, "")


class OutOfDistributionScore(nn.Module):
    """Mahalanobis distance in the leading principal components of the training cases' lesion vectors.

    Source: Lee et al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018.
    """

    mean: Tensor
    whitening: Tensor
    threshold: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(OOD_COMPONENTS, width))
        self.register_buffer("threshold", torch.tensor(float("inf")))

    def fit(self, vectors: Float[Tensor, "N P"]) -> None:
        """Set mean, components and threshold (the 97.5 % quantile of leave-one-out distances) from training cases."""
        count = vectors.shape[0]
        self.mean.copy_(vectors.mean(dim=0))
        _, singular, components = torch.linalg.svd(vectors - self.mean, full_matrices=False)
        # Few cases span few directions; a direction in which they do not differ says nothing of a new case.
        spanned = int((singular > 1e-4 * singular.max()).sum())
        rank = min(OOD_COMPONENTS, spanned)
        deviation = singular[:rank] / (count - 1) ** 0.5
        self.whitening.zero_()
        self.whitening[:rank] = components[:rank] / deviation.clamp_min(1e-6)[:, None]
        squared = self(vectors).square()
        # Distance of a case from the others: the closed form of leaving one row out of mean and covariance.
        leverage = (squared / (count - 1) + 1 / count).clamp(max=0.999)
        left_out = ((squared / (1 - leverage)) * (count / (count - 1))).sqrt()
        self.threshold.copy_(torch.quantile(left_out, OOD_QUANTILE))

    def forward(self, vectors: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        return ((vectors - self.mean) @ self.whitening.T).square().sum(dim=1).sqrt()


class EnergyScore(nn.Module):
    """Free energy of the logits, -log sum exp: high where no answer speaks up, whatever the case consists of.

    Source: Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020.
    """

    threshold: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(float("inf")))

    def fit(self, logits: Sequence[Float[Tensor, "N L"]]) -> None:
        """Set the threshold: the 97.5 % quantile of cases like those to come, best such that training did not see."""
        self.threshold.copy_(torch.quantile(self(logits), OOD_QUANTILE))

    def forward(self, logits: Sequence[Float[Tensor, "B L"]]) -> Float[Tensor, " B"]:
        """Return the mean energy over the tasks' logits."""
        return torch.stack([-item.float().logsumexp(dim=1) for item in logits]).mean(dim=0)
