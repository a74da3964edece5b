"""What objectives besides labels add on these patients: each against the same training without it, on the same folds.

The trunks are those of the folds, which did not see the patient. Nearly every patient has a label, so pseudo-labels are
given to half of them whose labels are hidden, and held against learning from the other half alone.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kg import KnowledgeGraph
from medmm.heads import pooled_logits, probabilities
from medmm.inputs import CaseFeatures, CaseReader, CaseView
from medmm.model import MultimodalModel
from pipelines.recipes.glioma_mri.data import N_FOLDS, fold_of_patients, read_patients
from pipelines.recipes.glioma_mri.spec import LABELS, build_config
from pipelines.recipes.glioma_mri.what import SETTINGS, build_reader, read_views, targets_of
from pipelines.recipes.glioma_mri.where import trunk_file
from pipelines.statistics import N_BOOTSTRAP, auroc, bootstrap, paired_difference
from pipelines.training.fit import pseudo_targets
from pipelines.training.objectives import Autoencoder, Contrastive, Objectives, PseudoLabels
from pipelines.training.what import UNKNOWN, WhatSettings, fit_locations, predict_logits, train_what

logger = logging.getLogger(__name__)
N_MEMBERS = 5
JOINT_WIDTH = 16
PSEUDO = PseudoLabels(min_confidence=0.7)
LABELS_ALONE, HALF = "labels alone", "half of the labels"
ENSEMBLE, HALF_PSEUDO = f"ensemble of {N_MEMBERS}", "half of the labels, pseudo-labels"
TRAINED_WITH = {
    LABELS_ALONE: Objectives(),
    "contrastive (InfoNCE)": Objectives(contrastive=Contrastive()),
    "contrastive (margin)": Objectives(contrastive=Contrastive(loss="margin")),
    "autoencoder": Objectives(autoencoder=Autoencoder()),
}
CONTROLS = dict.fromkeys((*list(TRAINED_WITH)[1:], ENSEMBLE), LABELS_ALONE) | {HALF_PSEUDO: HALF}
Chances = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveAnswers:
    """Out-of-fold probabilities (N, L) by variant and task, and what is true (N,), -1 where unknown."""

    truth: Chances
    chances: Mapping[str, Chances]


def answer_by_objectives(
    data: Path, work: Path, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS
) -> ObjectiveAnswers:
    """Return every variant's answers to every patient by models that did not learn from that patient."""
    patients = read_patients(data)
    fold, targets = fold_of_patients(patients), targets_of(patients)
    empty = {task.name: np.zeros((len(patients), len(task.classes))) for task in LABELS.fusion_tasks()}
    variants = (*TRAINED_WITH, ENSEMBLE, HALF, HALF_PSEUDO)
    chances = {name: {task: values.copy() for task, values in empty.items()} for name in variants}
    for index in range(N_FOLDS):
        train, test = np.flatnonzero(fold != index), np.flatnonzero(fold == index)
        lesson = _prepare(work, index, graph, read_views(work, str(index), patients, graph), targets, train)
        answers = lesson.answer(test, settings, seed=index)
        for name, by_task in answers.items():
            for task, values in by_task.items():
                chances[name][task][test] = values
        logger.info("fold %d done", index)
    return ObjectiveAnswers(truth={name: targets[name] for name in empty}, chances=chances)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesson:
    """One fold: features of everyone, rows to learn from, and the front that saw them."""

    front: CaseReader
    features: list[CaseFeatures]
    targets: Chances
    train: np.ndarray

    def answer(self, test: np.ndarray, settings: WhatSettings, seed: int) -> dict[str, Chances]:
        """Probabilities (T, L) by variant and task."""
        known = {name: values[self.train] for name, values in self.targets.items()}
        seeds = [settings.seed, *(settings.seed + 1 + member for member in range(N_MEMBERS - 1))]
        readers = {name: [self._learn(known, settings, on)] for name, on in TRAINED_WITH.items()}
        others = [self._learn(known, replace(settings, seed=one), Objectives()) for one in seeds[1:]]
        readers[ENSEMBLE] = [*readers[LABELS_ALONE], *others]
        half = hide_half(known, seed)
        readers[HALF] = [self._learn(half, settings, Objectives())]
        guessed = pseudo_targets(readers[HALF][0], self._rows(self.train), half, PSEUDO, [])
        readers[HALF_PSEUDO] = [self._learn(guessed, settings, Objectives())]
        return {name: self._ask(group, test) for name, group in readers.items()}

    def _learn(self, known: Chances, settings: WhatSettings, objectives: Objectives) -> CaseReader:
        torch.manual_seed(settings.seed)
        config = self.front.config.model_copy(update={"joint_width": JOINT_WIDTH if objectives.contrastive else None})
        model = MultimodalModel(config, LABELS)
        places = {
            name: value
            for name, value in self.front.model.state_dict().items()
            if name.startswith(("trunk.", "locations."))
        }
        model.load_state_dict(places, strict=False)
        reader = CaseReader(model.eval(), None, self.front.graph)
        train_what(reader, self._rows(self.train), known, settings, objectives=objectives)
        return reader

    def _ask(self, readers: list[CaseReader], test: np.ndarray) -> Chances:
        answers = [predict_logits(reader, self._rows(test)) for reader in readers]
        return {
            task.name: probabilities(
                pooled_logits([torch.from_numpy(one[task.name]) for one in answers], task.kind), task.kind
            ).numpy()
            for task in LABELS.fusion_tasks()
        }

    def _rows(self, rows: np.ndarray) -> list[CaseFeatures]:
        return [self.features[int(row)] for row in rows]


def hide_half(known: Chances, seed: int) -> Chances:
    """Return targets with the labels of a random half of the patients unknown, the same half in every task."""
    count = len(next(iter(known.values())))
    hidden = np.random.default_rng(seed).permutation(count)[: count // 2]
    half = {name: values.copy() for name, values in known.items()}
    for values in half.values():
        values[hidden] = UNKNOWN
    return half


def tables(answers: ObjectiveAnswers, n_resamples: int = N_BOOTSTRAP) -> dict[str, dict[str, object]]:
    """Return AUROC by task and variant, and the difference from the variant's control, with intervals over patients."""
    found: dict[str, dict[str, object]] = {}
    for task, truth in answers.truth.items():
        known = truth != UNKNOWN
        values = {name: chances[task][known] for name, chances in answers.chances.items()}
        found[task] = {
            "auroc": {
                name: bootstrap(auroc, truth[known], chances, n_resamples=n_resamples).to_dict()
                for name, chances in values.items()
            },
            "gain": {
                name: {"over": control}
                | paired_difference(
                    auroc, truth[known], values[name], values[control], n_resamples=n_resamples
                ).to_dict()
                for name, control in CONTROLS.items()
            },
        }
    return found


def to_markdown(found: Mapping[str, Mapping[str, object]]) -> str:
    """The tables for people; a gain whose interval holds 0 cannot be told from nothing."""
    lines = [
        "| task | variant | AUROC (95% interval) | gain (95% interval) | over |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task, parts in found.items():
        figures: Mapping[str, Mapping[str, float]] = parts["auroc"]  # type: ignore[assignment]  # as `tables` makes it
        gains: Mapping[str, Mapping[str, float | str]] = parts["gain"]  # type: ignore[assignment]  # the same
        for name, figure in figures.items():
            gain = gains.get(name)
            added = f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})" if gain else ""
            shown = f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
            lines.append(f"| {task} | {name} | {shown} | {added} | {gain['over'] if gain else ''} |")
    return "\n".join(lines) + "\n"


def write_answers(answers: ObjectiveAnswers, out: Path) -> str:
    """Write the figures as JSON and every probability; return the tables for people."""
    out.mkdir(parents=True, exist_ok=True)
    found = tables(answers)
    (out / "objectives.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    arrays = {f"{name}/{task}": values for name, table in answers.chances.items() for task, values in table.items()}
    arrays |= {f"truth/{task}": values for task, values in answers.truth.items()}
    np.savez_compressed(out / "objectives.npz", **arrays)  # type: ignore[arg-type]  # all arrays
    return to_markdown(found)


def _prepare(
    work: Path, index: int, graph: KnowledgeGraph, views: Sequence[CaseView], targets: Chances, train: np.ndarray
) -> _Lesson:
    """Fit the places on the fold's training patients, and let the graph see where everyone's tumour lies."""
    front = build_reader(build_config(graph), graph, trunk_file(work, str(index)))
    known = {name: values[train] for name, values in targets.items()}
    fit_locations(front.model, [views[int(row)].features for row in train], known)
    features = [front.consult_graph(view).features for view in views]
    return _Lesson(front=front, features=features, targets=targets, train=train)
