"""What the model does not know: temperature, conformal prediction sets, distance from the training cases."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

OOD_COMPONENTS = 8
OOD_QUANTILE = 0.975


def fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the temperature with the lowest cross-entropy on held-out cases (Guo et al., ICML 2017); 1 without any.

    Args:
        logits: (N, L), from models that did not see the case.
        target: (N,) class indices.
    """

    if len(target) == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = torch.from_numpy(logits) / math.exp(log_temperature)
        return float(nn.functional.cross_entropy(scaled.double(), torch.from_numpy(target).long()))

    return float(math.exp(minimize_scalar(loss, bounds=(-2.0, 3.0), method="bounded").x))


def conformal_quantile(probabilities: np.ndarray, target: np.ndarray, coverage: float) -> float:
    """Return the quantile of 1 - p(true class) that gives sets of the stated coverage on exchangeable cases.

    The rank is ceil((n + 1) coverage), as split conformal prediction needs (Sadinle, Lei, Wasserman, JASA 2019); 1.0,
    every class, where n is too small for the coverage.

    Args:
        probabilities: (N, L), calibrated, from models that did not see the case.
        target: (N,) class indices.
        coverage: Between 0 and 1.
    """
    scores = np.sort(1 - probabilities[np.arange(len(target)), target].astype(np.float64))
    rank = math.ceil((len(scores) + 1) * coverage)
    return 1.0 if rank > len(scores) else float(scores[rank - 1])


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said aloud: the classes that cannot be excluded, and whether that is an answer."""

    prediction_set: tuple[str, ...]
    abstained: bool
    reason: str


def decide(names: list[str], titles: list[str], values: np.ndarray, quantile: float, coverage: float) -> Decision:
    """Return the prediction set of one-of-L probabilities (L,); abstain if it holds more than one class.

    The most probable class is always in the set, which can only raise the coverage.
    """
    best = int(values.argmax())
    inside = [index for index, value in enumerate(values) if 1 - value <= quantile or index == best]
    chosen = tuple(names[index] for index in inside)
    if len(inside) == 1:
        return Decision(chosen, False, "")
    listed = ", ".join(titles[index] for index in inside[:-1]) + f" and {titles[inside[-1]]}"
    return Decision(chosen, True, f"At {coverage:.0%} coverage {listed} cannot be told apart.")


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
