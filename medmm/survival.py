"""Time to an event: discrete-time hazards and Cox's proportional hazards, with censored cases.

Times are cut into intervals at `edges`: interval l is [edges[l-1], edges[l]), the first begins at 0 and the last has no
end. Both heads lead to the same thing, the log-probability of the event in each interval, so that calibration and
results treat survival like any other task.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional


class HazardHead(nn.Module):
    """Log-probability of the event in each of L intervals, from one hazard for each but the last.

    Source: Gensheimer and Narasimhan, "A scalable discrete-time survival model for neural networks", PeerJ 2019.
    """

    def __init__(self, width: int, n_intervals: int) -> None:
        super().__init__()
        self.hazard = nn.Linear(width, n_intervals - 1)

    def forward(self, embedding: Float[Tensor, "B F"]) -> Float[Tensor, "B L"]:
        logits = self.hazard(embedding)  # (B, L-1)
        happens, passes = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        survived = functional.pad(passes.cumsum(dim=1), (1, 0))  # (B, L): log of surviving all intervals before
        return survived + functional.pad(happens, (0, 1))


class ProportionalHazardHead(nn.Module):
    """Cox's model for times that are known by interval: one log-risk a case, one learned baseline hazard an interval.

    Log-probability of the event in each of L intervals, as `HazardHead` gives it. Source: Prentice and Gloeckler,
    "Regression analysis of grouped survival data", Biometrics 1978.
    """

    def __init__(self, width: int, n_intervals: int) -> None:
        super().__init__()
        self.risk = nn.Linear(width, 1, bias=False)  # a bias would be part of the baseline
        self.baseline = nn.Parameter(torch.zeros(n_intervals - 1))

    def forward(self, embedding: Float[Tensor, "B F"]) -> Float[Tensor, "B L"]:
        hazard = torch.exp((self.risk(embedding) + self.baseline).clamp(max=20.0))  # (B, L-1), of an interval
        survived = functional.pad(-hazard.cumsum(dim=1), (1, 0))  # (B, L): log of surviving all intervals before
        happens = torch.log(-torch.expm1(-hazard.clamp_min(1e-6)))
        return survived + functional.pad(happens, (0, 1))


class CoxHead(nn.Module):
    """Log-risk of each case, with the training cases' cumulative baseline hazard at the edges of the intervals."""

    baseline: Tensor

    def __init__(self, width: int, n_intervals: int) -> None:
        super().__init__()
        self.risk = nn.Linear(width, 1, bias=False)  # a bias would be part of the baseline
        self.register_buffer("baseline", torch.arange(1.0, n_intervals) / n_intervals)

    def forward(self, embedding: Float[Tensor, "B F"]) -> Float[Tensor, " B"]:
        return self.risk(embedding).squeeze(1)

    def log_probabilities(self, log_risk: Float[Tensor, " B"]) -> Float[Tensor, "B L"]:
        """Log-probability of the event in each interval."""
        survival = torch.exp(-self.baseline * log_risk.exp()[:, None])  # (B, L-1) at the edges
        bounded = functional.pad(functional.pad(survival, (1, 0), value=1.0), (0, 1))
        return (bounded[:, :-1] - bounded[:, 1:]).clamp_min(1e-12).log()

    @torch.no_grad()
    def fit_baseline(
        self,
        log_risk: Float[Tensor, " N"],
        time: Float[Tensor, " N"],
        event: Bool[Tensor, " N"],
        edges: Float[Tensor, " E"],
    ) -> None:
        """Set the cumulative baseline hazard at `edges` from the training cases (Breslow 1974)."""
        risk = log_risk.exp()
        moments = time[event].unique()
        at_risk = (time[None] >= moments[:, None]).to(risk.dtype) @ risk
        deaths = (time[event][None] == moments[:, None]).sum(dim=1)
        increments = deaths / at_risk
        self.baseline.copy_(torch.stack([increments[moments < edge].sum() for edge in edges]))


def cox_loss(log_risk: Float[Tensor, " B"], time: Float[Tensor, " B"], event: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return the negative log partial likelihood per event (Cox 1972), ties after Breslow; 0 without any event."""
    if not event.any():
        return log_risk.sum() * 0
    later = time[None] >= time[:, None]  # (B, B): column still at risk when the row's time comes
    denominators = log_risk[None].expand_as(later).masked_fill(~later, float("-inf")).logsumexp(dim=1)
    return (denominators - log_risk)[event].mean()


def survival_loss(logits: Float[Tensor, "B L"], target: Int[Tensor, "B 2"]) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of what is known of each case.

    Args:
        logits: Log-probability of the event in each interval, up to a constant.
        target: The interval where follow-up ended, and whether the event ended it (1) or not (0); -1 where unknown. A
            case without the event had it then or later.
    """
    known = target[:, 0] >= 0
    if not known.any():
        return logits.sum() * 0
    chances = logits[known].log_softmax(dim=1)
    interval, event = target[known, 0], target[known, 1] > 0
    at = chances.gather(1, interval[:, None]).squeeze(1)
    index = torch.arange(logits.shape[1], device=logits.device)
    later = chances.masked_fill(index[None] < interval[:, None], float("-inf")).logsumexp(dim=1)
    return -torch.where(event, at, later).mean()


def to_intervals(time: np.ndarray, event: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return targets (N, 2) of `survival_loss` from times (N,) in the unit of `edges`; -1 where a time is NaN."""
    interval = np.searchsorted(edges, time, side="right")
    target = np.stack([interval, event.astype(int)], axis=1)
    return np.where(np.isnan(time)[:, None], -1, target)


def concordance(log_risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    """Return Harrell's C: how often, of two comparable cases, the one at higher risk has the event first (ties half).

    NaN where no two cases can be compared.
    """
    first = event[:, None].astype(bool) & (time[:, None] < time[None])
    higher = log_risk[:, None] - log_risk[None]
    comparable = int(first.sum())
    won = float((first & (higher > 0)).sum()) + 0.5 * float((first & (higher == 0)).sum())
    return won / comparable if comparable else float("nan")
