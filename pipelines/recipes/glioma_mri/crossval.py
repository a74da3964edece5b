"""Cross-validation of glioma-mri's second step: five folds by patient, and every site left out."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kg import KnowledgeGraph
from medmm.inputs import CaseReader, CaseView
from pipelines.recipes.glioma_mri.baselines import Answers, answer_by_baselines, answer_from_masks
from pipelines.recipes.glioma_mri.data import (
    N_FOLDS,
    Patient,
    fold_of_patients,
    mask_position,
    read_example,
    read_patients,
)
from pipelines.recipes.glioma_mri.spec import LABELS, build_config
from pipelines.recipes.glioma_mri.what import SETTINGS, build_reader, fit, read_views, summary_of, targets_of
from pipelines.recipes.glioma_mri.where import site_name, trunk_file
from pipelines.training.what import WhatSettings, predict_logits

logger = logging.getLogger(__name__)
Scheme = Literal["folds", "sites"]
# Which modalities an ablation leaves in; the full model is answered without what is not listed.
ABLATIONS: dict[str, tuple[bool, bool, bool, bool]] = {
    "all": (True, True, True, True),
    "without record": (True, True, False, True),
    "without graph": (True, True, True, False),
    "record only": (False, True, True, False),
    "volume only": (True, True, False, False),
}
NO_GRAPH = "trained without graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which patients (rows) teach, which are asked, and whose trunk looks at all of them."""

    scheme: Scheme
    trunk: str
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """Out-of-fold results of N patients: `dice` (N,), `logits` by variant and task (N, L), `targets` by task (N,)."""

    patients: Sequence[Patient]
    dice: np.ndarray
    targets: dict[str, np.ndarray]
    logits: dict[str, Answers]
    sites: "LeftOutSites"
    found: np.ndarray
    outlier: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutSites:
    """Answers of models that learned from no patient of the site: `logits` by variant and task (N, L).

    `dice` (N,): of trunks that saw no mask of the site; None where the trunks were those of the folds, which did not
    see the patient's mask but those of others of the site.
    """

    patients: Sequence[Patient]
    targets: dict[str, np.ndarray]
    logits: dict[str, Answers]
    dice: np.ndarray | None


def cross_validate(data: Path, work: Path, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS) -> CrossValidation:
    """Return out-of-fold and out-of-site answers for every patient, by variant, from the trunks in `work`.

    Variants: those of `ABLATIONS` (one model, answered without a modality), `NO_GRAPH`, the baselines, and for location
    tasks `READERS`.
    """
    patients = read_patients(data)
    targets, n = targets_of(patients), len(patients)
    has_site_trunks = all((trunk_file(work, site_name(p.site))).is_file() for p in patients)
    logits: dict[Scheme, dict[str, Answers]] = {"folds": {}, "sites": {}}
    drawn = torch.cat([mask_position(read_example(patient)) for patient in patients])
    found, outlier = np.zeros(n, bool), np.zeros(n, bool)
    for seen in _answers_by_part(parts_of(patients, has_site_trunks), patients, targets, work, graph, settings):
        part, answers = seen.part, seen.answers
        if part.scheme == "folds":
            answers |= answer_from_masks(drawn, targets, part.train, part.test)
            plain = build_reader(build_config(graph, "none"), None, trunk_file(work, part.trunk))
            without = [_without_graph(view) for view in seen.views]
            answers[NO_GRAPH] = _learn(plain, without, targets, part, settings)["all"]
            for row in part.test:
                summary = summary_of(seen.views[row])
                found[row] = bool(summary.found[0])
                ood = seen.reader.model.ood
                outlier[row] = float(ood(summary.lesion)[0]) > float(ood.threshold)
        _fill(logits[part.scheme], answers, part.test, n)
    return CrossValidation(
        patients=patients, dice=_read_dice(work, patients, _folds()), targets=targets, logits=logits["folds"],
        found=found, outlier=outlier, sites=LeftOutSites(
            patients=patients, targets=targets, logits=logits["sites"],
            dice=_read_dice(work, patients, _sites(patients)) if has_site_trunks else None,
        ),
    )  # fmt: skip


def leave_sites_out(data: Path, work: Path, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS) -> LeftOutSites:
    """Return the answers to every patient of models that saw nothing of the patient's site, from trunks in `work`.

    Raises:
        FileNotFoundError: the trunk of a site is missing; `where --fold site-...` trains it.
    """
    patients = read_patients(data)
    targets, logits = targets_of(patients), dict[str, Answers]()
    dice = _read_dice(work, patients, _sites(patients))
    parts = [part for part in parts_of(patients, has_site_trunks=True) if part.scheme == "sites"]
    for seen in _answers_by_part(parts, patients, targets, work, graph, settings):
        _fill(logits, seen.answers, seen.part.test, len(patients))
    return LeftOutSites(patients=patients, targets=targets, logits=logits, dice=dice)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A part, what its trunk saw of every patient, and the answers (T, L) to its test patients by variant and task."""

    part: Part
    views: list[CaseView]
    reader: CaseReader
    answers: dict[str, Answers]


def _answers_by_part(
    parts: Sequence[Part], patients: Sequence[Patient], targets: Answers, work: Path, graph: KnowledgeGraph,
    settings: WhatSettings,
) -> Iterator[_Seen]:  # fmt: skip
    """Fit each part's model and simple baselines, and ask them of its test patients."""
    for trunk, of_trunk in groupby(parts, key=lambda part: part.trunk):
        views = read_views(work, trunk, patients, graph)
        for part in of_trunk:
            reader = build_reader(build_config(graph), graph, trunk_file(work, trunk))
            answers = _learn(reader, views, targets, part, settings)
            answers |= answer_by_baselines(patients, views, targets, part.train, part.test)
            yield _Seen(part=part, views=views, reader=reader, answers=answers)
        logger.info("trunk %s done", trunk)


def parts_of(patients: Sequence[Patient], has_site_trunks: bool) -> list[Part]:
    """Return all parts, those of a trunk together.

    Where there are no trunks of sites, a patient of the site left out is seen through the trunk of the patient's fold:
    it saw masks of others of the site, but the heads learned from none of them.
    """
    fold, sites = fold_of_patients(list(patients)), np.array([patient.site for patient in patients])
    parts = []
    for index in range(N_FOLDS):
        is_out = fold == index
        parts.append(_part("folds", str(index), ~is_out, is_out))
        if not has_site_trunks:
            of_sites = [sites == site for site in np.unique(sites[is_out])]
            parts += [_part("sites", str(index), ~of_site, of_site & is_out) for of_site in of_sites]
    if has_site_trunks:
        parts += [_part("sites", site_name(site), sites != site, sites == site) for site in np.unique(sites)]
    return parts


def _part(scheme: Scheme, trunk: str, train: np.ndarray, test: np.ndarray) -> Part:
    return Part(scheme=scheme, trunk=trunk, train=np.flatnonzero(train), test=np.flatnonzero(test))


def _learn(
    reader: CaseReader, views: Sequence[CaseView], targets: Answers, part: Part, settings: WhatSettings
) -> dict[str, Answers]:
    """Answers (T, L) by ablation and task to the part's test patients."""
    known = {name: values[part.train] for name, values in targets.items()}
    fit(reader, [views[row] for row in part.train], known, settings)
    unseen = [reader.consult_graph(views[row]).features for row in part.test]
    return {name: predict_logits(reader, unseen, kept) for name, kept in ABLATIONS.items()}


def _fill(table: dict[str, Answers], answers: Mapping[str, Answers], rows: Iterable[int], n: int) -> None:
    for variant, by_task in answers.items():
        for task, values in by_task.items():
            empty = np.full((n, len(LABELS.task(task).classes)), np.nan)
            table.setdefault(variant, {}).setdefault(task, empty)[[*rows]] = values


def _without_graph(view: CaseView) -> CaseView:
    return replace(view, evidence=(), features=replace(view.features, subgraph=None, walk={}))


def _folds() -> list[str]:
    return [str(index) for index in range(N_FOLDS)]


def _sites(patients: Sequence[Patient]) -> list[str]:
    return sorted({site_name(patient.site) for patient in patients})


def _read_dice(work: Path, patients: Sequence[Patient], trunks: Sequence[str]) -> np.ndarray:
    """The overlap (N,) of every patient, each left out by one of the trunks."""
    scores: dict[str, float] = {}
    for trunk in trunks:
        scores.update(json.loads((work / f"dice-{trunk}.json").read_text(encoding="utf-8")))
    return np.array([scores[patient.patient] for patient in patients])
