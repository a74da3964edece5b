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

from medmm.encoders.volume import marked_mass
from medmm.explain.activation_maps import attend, to_cells
from medmm.explain.faithfulness import curves, likeness, mass_in, order_by_map, points_into
from medmm.explain.gradients import contributions, trace
from medmm.explain.methods import VOLUME_METHODS
from medmm.explain.question import VolumeQuestion, ask
from medmm.explain.sensitivity import occlusions
from medmm.explain.volume import ACTIVATION_MAPS, attribute_volume, speaks_for
from medmm.explain.volume_checks import RandomOrders, noisy, random_orders, seen_again, shuffled_model
from medmm.inputs import CaseReader, CaseView
from medmm.types import Case

if TYPE_CHECKING:
    from medmm.diagnose import Diagnoser

BASELINES = ("random", "centre", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapTests:
    """`curves`: deletion and insertion, some twenty passes and six a map. `again`: shuffled weights and noise."""

    curves: bool = True
    again: bool = True


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
    tests: MapTests | None = None,
) -> list[MapScores]:
    """Return the scores of a case's maps for its most probable answers; empty without a volume that has regions.

    Args:
        diagnoser: The model.
        case: A case.
        mask: Known lesion (I, J, K) on the grid of the series that maps are drawn on, if there is one.
        tasks: Names of the tasks; all by default.
        methods: Names of volume methods and of baselines.
        tests: Which tests are run; all by default.
    """
    view, diagnosis = diagnoser.view(case), diagnoser.diagnose(case)
    tests = tests or MapTests()
    chosen = [task for task in diagnoser.model.labels.tasks if tasks is None or task.name in set(tasks)]
    targets = {task.name: task.index(diagnosis.tasks[task.name].prediction) for task in chosen}
    questions = [ask(diagnoser.reader, view, task, targets[task.name]) for task in chosen]
    asked = [question for question in questions if question is not None]
    if not asked:
        return []
    at_random = random_orders(asked[0], np.random.default_rng(1)) if tests.curves else None
    maps = maps_of(asked, view, methods)
    again = _again(asked, view, [name for name in methods if name in VOLUME_METHODS]) if tests.again else ({}, {})
    rows: list[MapScores] = []
    for question in asked:
        task = question.task.name
        for name, found in maps[task].items():
            others = (again[0][task][name], again[1][task][name]) if name in again[0].get(task, {}) else None
            rows.append(_score(question, view, name, found, mask, at_random, others))
    return rows


def maps_of(
    questions: Sequence[VolumeQuestion], view: CaseView, methods: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """Return contributions (S, D, H, W) by task and method or baseline; occlusion covers once for all questions."""
    covered = occlusions(questions) if "occlusion" in methods else [None] * len(questions)
    rest = [name for name in methods if name != "occlusion"]
    maps = {}
    for question, falls in zip(questions, covered, strict=True):
        found = _maps_of_one(question, view, rest) | ({} if falls is None else {"occlusion": falls})
        maps[question.task.name] = {name: found[name] for name in methods}
    return maps


def _maps_of_one(question: VolumeQuestion, view: CaseView, methods: Sequence[str]) -> dict[str, Tensor]:
    """The Grad-CAM family shares its two passes."""
    gradient = None
    if "lesion" in methods and question.task.source == "fusion":
        traced = trace(question.reader, [view])
        gradient = contributions(traced, question.task, [question.target])[0].lesion
    shared = attend(question) if any(name in ACTIVATION_MAPS for name in methods) else None
    maps: dict[str, Tensor] = {}
    for name in methods:
        if name in BASELINES:
            maps[name] = _baseline(question, name)
        elif shared is not None and name in ACTIVATION_MAPS:
            maps[name] = to_cells(ACTIVATION_MAPS[name](*shared), question)
        else:
            maps[name] = attribute_volume(name, question, view, gradient)  # type: ignore[arg-type]  # checked there
    return maps


def _baseline(question: VolumeQuestion, name: str) -> Tensor:
    if name == "random":
        noise = torch.rand(question.volume.shape[2:], generator=torch.Generator().manual_seed(0))
        return (noise.to(question.volume.device) * question.head())[None]
    if name == "centre":
        return _centre(question)[None]
    return marked_mass(question.seen.region_logits[0].sigmoid().amax(dim=0))[None]


def _centre(question: VolumeQuestion) -> Tensor:
    """A Gaussian around the middle of the head, a quarter of its extent wide on each axis."""
    head = question.head()
    places = head.nonzero().float()
    middle, extent = places.mean(dim=0), (places.amax(dim=0) - places.amin(dim=0)).clamp_min(1)
    axes = [torch.arange(size, device=head.device, dtype=torch.float32) for size in head.shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return (-(((grid - middle) / (extent / 4)).square().sum(dim=-1)) / 2).exp() * head


def _again(
    questions: Sequence[VolumeQuestion], view: CaseView, methods: Sequence[str]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """The maps of shuffled weights and those of a noisy volume, by task and method."""
    first = questions[0]
    reader = first.reader
    other = CaseReader(shuffled_model(reader.model), reader.text_encoder, reader.graph)
    found = []
    for changed in (seen_again(other, view, first, first.volume), seen_again(reader, view, first, noisy(first))):
        asked = [ask(changed.reader, changed.view, question.task, question.target) for question in questions]
        found.append(maps_of([question for question in asked if question is not None], changed.view, methods))
    return found[0], found[1]


def _score(
    question: VolumeQuestion,
    view: CaseView,
    method: str,
    found: Tensor,
    mask: np.ndarray | None,
    at_random: RandomOrders | None,
    again: tuple[Tensor, Tensor] | None,
) -> MapScores:
    name, target, nan = question.task.name, question.target, float("nan")
    has_map = float(found.max()) > 0 and speaks_for(method, found)
    own = None
    if has_map and at_random is not None:
        own = curves(question, order_by_map(found, question, np.random.default_rng(0)))
    points, mass, share = _in_mask(question, view, found, mask) if has_map else (nan, nan, nan)
    head = question.head()
    return MapScores(
        case=view.case.case_id,
        task=name,
        target=question.task.classes[target].name,
        method=method,
        has_map=has_map,
        deletion=nan if own is None else float(own.deletion[name][target]),
        deletion_random=nan if at_random is None else at_random.deletion(name, target),
        insertion=nan if own is None else float(own.insertion[name][target]),
        insertion_random=nan if at_random is None else at_random.insertion(name, target),
        shuffled=nan if again is None or not has_map else likeness(found, again[0], head),
        repeated=nan if again is None or not has_map else likeness(found, again[1], head),
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
