"""Every kind of fusion, each modality alone, and other knowledge graphs on identical folds, with paired intervals.

A recipe brings its folds (`CaseFold`: how a model learns on one) and its setting (`Setting`: what is compared);
everything that decides whether the comparison is fair is here: the same cases, seeds and folds for every variant.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from kg import KnowledgeGraph
from kg.controls import shuffled_graph
from medmm.config import MODALITIES, Labels, ModelConfig
from medmm.fusion.kinds import FUSIONS
from medmm.heads import probabilities
from medmm.inputs import CaseFeatures, CaseReader
from pipelines.statistics import N_BOOTSTRAP, bootstrap, paired_difference
from pipelines.training.what import UNKNOWN, predict_logits

logger = logging.getLogger(__name__)
GRAPHS = ("hybrid, no graph", "hybrid, shuffled graph")
EVERYTHING = (True,) * len(MODALITIES)
Chances = dict[str, np.ndarray]
Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained model behind its front, and all N cases as that front sees them."""

    reader: CaseReader
    features: Sequence[CaseFeatures]


class CaseFold(Protocol):
    """One fold of a recipe. `is_training` (N,): which cases may be learned from."""

    is_training: np.ndarray

    def learn(self, config: ModelConfig, graph: KnowledgeGraph | None, only_modality: str | None = None) -> Learned:
        """Train a model of this configuration from the same seed, on one modality alone if asked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is compared. `config(graph)` gives the model's configuration, without the graph branch for None.

    `used`: the modalities that the cases have. `metrics`: by task, name and function of truth and probabilities.
    `targets` (N,) by task. `kinds`: the fusions, all by default.
    """

    labels: Labels
    config: Callable[[KnowledgeGraph | None], ModelConfig]
    graph: KnowledgeGraph
    used: tuple[str, ...]
    targets: Mapping[str, np.ndarray]
    metrics: Mapping[str, Mapping[str, Metric]]
    kinds: tuple[str, ...] = tuple(FUSIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Out-of-fold probabilities (N, L) by variant and task, by kind and what is available, and what is true."""

    truth: Chances
    chances: dict[str, Chances]
    metrics: Mapping[str, Mapping[str, Metric]]
    available: dict[str, dict[str, Chances]] = field(default_factory=dict)


def compare(setting: Setting, folds: Iterable[CaseFold]) -> Comparison:
    """Return every variant's answers to every case by a model that did not learn from that case."""
    tasks = [task for task in setting.labels.fusion_tasks() if task.name in setting.metrics]
    n_cases = len(next(iter(setting.targets.values())))
    empty = {task.name: np.zeros((n_cases, len(task.classes))) for task in tasks}
    alone, kept = single_names(setting.used), subsets(setting.used)
    result = Comparison(
        truth={name: setting.targets[name] for name in empty},
        chances={name: copy.deepcopy(empty) for name in (*setting.kinds, *alone, *GRAPHS)},
        metrics=setting.metrics,
        available={name: {kept_name(choice): copy.deepcopy(empty) for choice in kept} for name in setting.kinds},
    )
    graph, shuffled = setting.graph, shuffled_graph(setting.graph, seed=0)
    with_graph = setting.config(graph)
    for number, fold in enumerate(folds):
        for name in setting.kinds:
            learned = fold.learn(with_graph.model_copy(update={"fusion": name}), graph)
            _fill(result.chances[name], fold, learned)
            for choice in kept:
                _fill(result.available[name][kept_name(choice)], fold, learned, choice)
        for name, modality in alone.items():
            _fill(result.chances[name], fold, fold.learn(with_graph, graph, only_modality=modality))
        _fill(result.chances[GRAPHS[0]], fold, fold.learn(setting.config(None), None))
        _fill(result.chances[GRAPHS[1]], fold, fold.learn(with_graph, shuffled))
        logger.info("fold %d done", number)
    return result


def tables(result: Comparison, n_resamples: int = N_BOOTSTRAP) -> dict[str, object]:
    """Return the figures by task: every metric by variant, differences from the best single modality, availability.

    The best single modality is chosen by the task's first metric, on the same answers: that favours it.
    """
    found: dict[str, object] = {}
    for task, truth in result.truth.items():
        known = truth != UNKNOWN
        found[task] = {
            "n": int(known.sum()),
            **{name: _table(result, task, known, metric, n_resamples) for name, metric in result.metrics[task].items()},
        }
    return found


def _table(result: Comparison, task: str, known: np.ndarray, metric: Metric, n_resamples: int) -> dict[str, object]:
    truth = result.truth[task][known]
    values = {name: chances[task][known] for name, chances in result.chances.items()}
    first = next(iter(result.metrics[task].values()))
    alone = [name for name in values if name.endswith(ALONE)]
    best = max(alone, key=lambda name: first(truth, values[name]))
    kinds = [name for name in values if name not in alone and name not in GRAPHS]
    reference = dict.fromkeys(kinds, best) | (dict.fromkeys(GRAPHS, "hybrid") if "hybrid" in values else {})
    return {
        "value": {
            name: bootstrap(metric, truth, chances, n_resamples=n_resamples).to_dict()
            for name, chances in values.items()
        },
        "difference": {
            name: {"from": other}
            | asdict(paired_difference(metric, truth, values[name], values[other], n_resamples=n_resamples))
            for name, other in reference.items()
        },
        "available": {
            name: {kept: metric(truth, chances[task][known]) for kept, chances in by_kept.items()}
            for name, by_kept in result.available.items()
        },
    }


def to_markdown(found: Mapping[str, Any]) -> str:
    """Return what `tables` gave as Markdown: a section a task and metric, with a row a variant, then availability.

    A difference whose 95% interval holds 0 is not distinguishable, and the table says so.
    """
    parts = []
    for task, figures in found.items():
        for name, table in figures.items():
            if name != "n":
                parts.append(_section(f"{task}, {name.replace('_', ' ')} ({figures['n']} cases)", table))
    return "\n".join(parts)


def _section(title: str, table: Mapping[str, Any]) -> str:
    lines = [f"### {title}", "", "| variant | value (95% interval) | difference (95% interval) | from |"]
    lines.append("| --- | --- | --- | --- |")
    for name, value in table["value"].items():
        own = f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        other, difference = "", table["difference"].get(name)
        if difference is not None:
            low, high = difference["low"], difference["high"]
            doubt = ", not distinguishable" if low <= 0 <= high else ""
            other = f"{difference['value']:+.3f} ({low:+.3f} to {high:+.3f}){doubt} | {difference['from']}"
        lines.append(f"| {name} | {own} | {other or ' | '} |")
    kinds = list(table["available"])
    if kinds:
        lines += ["", f"| available | {' | '.join(kinds)} |", "| --- |" + " --- |" * len(kinds)]
        for kept in table["available"][kinds[0]]:
            row = " | ".join(f"{table['available'][kind][kept]:.3f}" for kind in kinds)
            lines.append(f"| {kept} | {row} |")
    return "\n".join([*lines, ""])


def write_comparison(result: Comparison, out: Path, n_resamples: int = N_BOOTSTRAP) -> None:
    """Write the figures as JSON and as Markdown, and every probability, so that they can be counted again."""
    out.mkdir(parents=True, exist_ok=True)
    found = tables(result, n_resamples)
    (out / "fusion_comparison.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "fusion_comparison.md").write_text(to_markdown(found), encoding="utf-8")
    arrays: dict[str, Any] = {f"truth/{task}": values for task, values in result.truth.items()}
    arrays |= {f"{name}/{task}": values for name, table in result.chances.items() for task, values in table.items()}
    np.savez_compressed(out / "probabilities.npz", **arrays)


ALONE = " alone"


def single_names(used: Sequence[str]) -> dict[str, str]:
    """Variants that learn from one modality alone: their names, and the modality."""
    return {f"{name}{ALONE}": name for name in used}


def only(features: CaseFeatures, modality: str) -> CaseFeatures:
    """The case with nothing but one modality."""
    if modality == "volume":
        return CaseFeatures(summary=features.summary, images=features.images)
    if modality == "text":
        return CaseFeatures(text=features.text)
    if modality == "record":
        return CaseFeatures(record=features.record)
    return CaseFeatures(subgraph=features.subgraph, walk=features.walk, sources=features.sources)


def subsets(used: Sequence[str]) -> list[tuple[bool, ...]]:
    """All 2^k choices of the modalities that the cases have, in the order of `MODALITIES`."""
    return [
        tuple(dict(zip(used, choice, strict=True)).get(name, False) for name in MODALITIES)
        for choice in product((False, True), repeat=len(used))
    ]


def kept_name(kept: Sequence[bool]) -> str:
    """What a choice of modalities is called in the tables."""
    return " + ".join(name for name, is_kept in zip(MODALITIES, kept, strict=True) if is_kept) or "nothing"


def _fill(table: Chances, fold: CaseFold, learned: Learned, kept: tuple[bool, ...] = EVERYTHING) -> None:
    rows = np.flatnonzero(~fold.is_training)
    logits = predict_logits(learned.reader, [learned.features[int(row)] for row in rows], kept)
    kinds = {task.name: task.kind for task in learned.reader.model.labels.tasks}
    for name, values in table.items():
        values[rows] = probabilities(torch.from_numpy(logits[name]), kinds[name]).numpy()
