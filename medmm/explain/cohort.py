"""Explanations of many cases under test: how often maps find a known lesion, and whether they pass their tests.

`measure_maps` is the entry point: one call a case, one row a task and method; whoever evaluates a model takes means and
intervals over patients. Three baselines go the same way as the methods: `random` (noise), `centre` (the middle of the
head) and `region` (what the trunk marks, whatever the answer).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medmm.config import TaskSpec
from medmm.encoders.volume import marked_mass
from medmm.explain.faithfulness import curves, mass_in, order_by_map, points_into
from medmm.explain.gradients import contributions, trace
from medmm.explain.methods import VOLUME_METHODS, VolumeMethod
from medmm.explain.question import VolumeQuestion, ask
from medmm.explain.volume import attribute_volume, speaks_for
from medmm.explain.volume_checks import RandomOrders, likeness_when_noisy, likeness_when_shuffled, random_orders
from medmm.inputs import CaseView
from medmm.types import Case

if TYPE_CHECKING:
    from medmm.diagnose import Diagnoser

BASELINES = ("random", "centre", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapScores:
    """One map of one case. NaN for what was not measured; `has_map` is False where a method shows none.

    `deletion` and `insertion` are mean probabilities of the answer, beside those in random order; `shuffled` and
    `repeated` are rank correlations; `points` and `mass` say whether the peak, and which share of the map, lies in the
    known mask, of which `mask_share` of the head is made.
    """

    case: str
    task: str
    target: str
    method: str
    has_map: bool
    deletion: float
    deletion_random: float
    insertion: float
    insertion_random: float
    shuffled: float
    repeated: float
    points: float
    mass: float
    mask_share: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def measure_maps(
    diagnoser: "Diagnoser",
    case: Case,
    mask: np.ndarray | None = None,
    *,
    tasks: Iterable[str] | None = None,
    methods: Sequence[str] = (*VOLUME_METHODS, *BASELINES),
    with_shuffled: bool = True,
) -> list[MapScores]:
    """Return the scores of a case's maps for its most probable answers; empty without a volume.

    Args:
        diagnoser: The model.
        case: A case.
        mask: Known lesion (I, J, K) on the grid of the series that maps are drawn on, if there is one.
        tasks: Names of the tasks; all by default.
        methods: Names of volume methods and of baselines.
        with_shuffled: Also run the methods on shuffled weights and on a noisy volume: three times the work.
    """
    view, diagnosis = diagnoser.view(case), diagnoser.diagnose(case)
    chosen = [task for task in diagnoser.model.labels.tasks if tasks is None or task.name in set(tasks)]
    rows: list[MapScores] = []
    at_random: RandomOrders | None = None
    for task in chosen:
        question = ask(diagnoser.reader, view, task, task.index(diagnosis.tasks[task.name].prediction))
        if question is None:
            return []
        at_random = at_random or random_orders(question, np.random.default_rng(1))
        for method in methods:
            found = _map(diagnoser, view, task, question, method)
            rows.append(_score(question, view, found, method, at_random, mask, with_shuffled))
    return rows


def _map(diagnoser: "Diagnoser", view: CaseView, task: TaskSpec, question: VolumeQuestion, method: str) -> Tensor:
    if method == "random":
        noise = torch.rand(question.volume.shape[2:], generator=torch.Generator().manual_seed(0))
        return (noise.to(question.volume.device) * question.head())[None]
    if method == "centre":
        return _centre(question)[None]
    if method == "region":
        return marked_mass(question.seen.region_logits[0].sigmoid().amax(dim=0))[None]
    gradient = None
    if method == "lesion" and task.source == "fusion":
        gradient = contributions(trace(diagnoser.reader, view), task, question.target).lesion
    return attribute_volume(method, question, view, gradient)  # type: ignore[arg-type]  # checked in `attribute_volume`


def _centre(question: VolumeQuestion) -> Tensor:
    """A Gaussian around the middle of the head, a quarter of its extent wide on each axis."""
    head = question.head()
    places = head.nonzero().float()
    middle, extent = places.mean(dim=0), (places.amax(dim=0) - places.amin(dim=0)).clamp_min(1)
    axes = [torch.arange(size, device=head.device, dtype=torch.float32) for size in head.shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return (-(((grid - middle) / (extent / 4)).square().sum(dim=-1)) / 2).exp() * head


def _score(
    question: VolumeQuestion,
    view: CaseView,
    found: Tensor,
    method: str,
    at_random: RandomOrders,
    mask: np.ndarray | None,
    with_shuffled: bool,
) -> MapScores:
    name, target, nan = question.task.name, question.target, float("nan")
    is_method = method in VOLUME_METHODS
    has_map = float(found.max()) > 0 and (not is_method or speaks_for(method, found))  # type: ignore[arg-type]  # just tested
    own = curves(question, order_by_map(found, question, np.random.default_rng(0))) if has_map else None
    points, mass, share = _in_mask(question, view, found, mask) if has_map else (nan, nan, nan)
    retry: VolumeMethod | None = method if is_method and with_shuffled and has_map else None  # type: ignore[assignment]  # just tested
    return MapScores(
        case=view.case.case_id,
        task=name,
        target=question.task.classes[target].name,
        method=method,
        has_map=has_map,
        deletion=nan if own is None else float(own.deletion[name][target]),
        deletion_random=at_random.deletion(name, target),
        insertion=nan if own is None else float(own.insertion[name][target]),
        insertion_random=at_random.insertion(name, target),
        shuffled=nan if retry is None else likeness_when_shuffled(question, view, found, retry),
        repeated=nan if retry is None else likeness_when_noisy(question, view, found, retry),
        points=points,
        mass=mass,
        mask_share=share,
    )


def _in_mask(
    question: VolumeQuestion, view: CaseView, found: Tensor, mask: np.ndarray | None
) -> tuple[float, float, float]:
    if mask is None or view.prepared is None:
        return float("nan"), float("nan"), float("nan")
    grid = view.prepared.grid
    values = grid.to_source(found.clamp_min(0).sum(dim=0).float().cpu().numpy())
    head = grid.to_source(question.head().float().cpu().numpy()) >= 0.5
    share = float(mask[head].astype(bool).mean()) if head.any() else float("nan")
    return float(points_into(values, mask)), mass_in(values, mask), share
