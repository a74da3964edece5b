"""Tests of an explanation on its own case: take away what it calls important, and see whether the answer notices.

Each test compares the fall of the target's probability with the fall after taking away as much at random
(comprehensiveness after DeYoung et al., ERASER, ACL 2020; deletion after Petsiuk et al., RISE, BMVC 2018).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmm.config import TaskSpec
from medmm.encoders.slice_unet import look
from medmm.encoders.volume import summarise
from medmm.evidence import seeds
from medmm.heads import probabilities
from medmm.inputs import CaseFeatures, CaseView, collate
from medmm.results import ExplanationCheck, TaskExplanation, VolumeAttribution, WordAttribution

if TYPE_CHECKING:
    from medmm.diagnose import Diagnoser

SHARE_REMOVED = 0.1
N_RANDOM = 3


def check_explanation(
    diagnoser: "Diagnoser", view: CaseView, task: TaskSpec, explained: TaskExplanation
) -> tuple[TaskExplanation, list[str]]:
    """Return the explanation with its tests, and a sentence for each that it did not pass."""
    index = task.index(explained.target)
    full = _chance(diagnoser, view.features, task, index)
    rng = np.random.default_rng(0)  # the same case gets the same tests
    checks = [
        *_check_volume(diagnoser, view, task, explained.volumes, full, rng),
        *_check_words(diagnoser, view, task, explained, full, rng),
        *_check_paths(diagnoser, view, task, explained, full),
    ]
    failed = [check.sentence for check in checks if not check.is_passed]
    return replace(explained, checks=tuple(checks)), failed


def _check_volume(
    diagnoser: "Diagnoser",
    view: CaseView,
    task: TaskSpec,
    volumes: Sequence[VolumeAttribution],
    full: float,
    rng: np.random.Generator,
) -> list[ExplanationCheck]:
    if not volumes or view.prepared is None:
        return []
    array, present = view.prepared.array, torch.from_numpy(view.prepared.present)[None].to(diagnoser.device)
    marked = _on_model_grid(volumes[0].values, array.shape[1:])
    head = np.flatnonzero(array.max(axis=0).ravel() > -0.8)
    count = max(1, int(len(head) * SHARE_REMOVED))

    def without(flat: np.ndarray) -> float:
        changed = array.copy().reshape(len(array), -1)
        changed[:, flat] = 0  # the mean of the head
        volume = torch.from_numpy(changed.reshape(array.shape))[None].to(diagnoser.device)
        with torch.no_grad():
            summary = summarise(look(diagnoser.model.trunk, volume, present), volume, present)
        return _chance(diagnoser, replace(view.features, summary=summary), task, task.index(volumes[0].target))

    top = head[np.argsort(-marked.ravel()[head], kind="stable")[:count]]
    drop = full - without(top)
    at_random = full - float(np.mean([without(rng.choice(head, count, replace=False)) for _ in range(N_RANDOM)]))
    return [
        _verdict("volume deletion", drop, at_random, f"the {SHARE_REMOVED:.0%} of the head that the heatmap marks most")
    ]


def _check_words(
    diagnoser: "Diagnoser",
    view: CaseView,
    task: TaskSpec,
    explained: TaskExplanation,
    full: float,
    rng: np.random.Generator,
) -> list[ExplanationCheck]:
    encoder, report = diagnoser.reader.text_encoder, view.case.report
    if not explained.words or encoder is None or report is None:
        return []
    count = max(1, round(len(explained.words) * SHARE_REMOVED))

    def without(words: Sequence[WordAttribution]) -> float:
        text = report.text
        for word in sorted(words, key=lambda item: -item.start):
            text = text[: word.start] + encoder.tokenizer.mask_token + text[word.end :]
        encoded = encoder.encode(text)
        with torch.no_grad():
            states = encoder.sentences(encoder.states(encoded), encoded)
        return _chance(diagnoser, replace(view.features, text=states), task, task.index(explained.target))

    ranked = sorted(explained.words, key=lambda item: (-item.value, item.start))
    drop = full - without(ranked[:count])
    draws = [rng.choice(len(ranked), count, replace=False) for _ in range(N_RANDOM)]
    at_random = full - float(np.mean([without([ranked[int(row)] for row in draw]) for draw in draws]))
    return [_verdict("word deletion", drop, at_random, f"the {count} words that counted most")]


def _check_paths(
    diagnoser: "Diagnoser", view: CaseView, task: TaskSpec, explained: TaskExplanation, full: float
) -> list[ExplanationCheck]:
    reader = diagnoser.reader
    if not explained.paths or reader.graph is None:
        return []
    starts = seeds(view.evidence, reader.answers, reader.graph)
    on_path = {name for path in explained.paths for hop in path.hops for name in (hop.subject, hop.object)}
    used = [concept for concept in starts if concept in on_path]
    others = [concept for concept in starts if concept not in on_path]

    def without(gone: Sequence[str]) -> float:
        subgraph, walk = reader.walk({name: value for name, value in starts.items() if name not in gone})
        changed = replace(view.features, subgraph=subgraph, walk=walk)
        return _chance(diagnoser, changed, task, task.index(explained.target))

    if not used or not others:
        return []
    drop = full - without(used)
    size = min(len(used), len(others))
    reference = full - float(np.mean([without(others[start : start + size]) for start in range(0, len(others), size)]))
    return [_verdict("path deletion", drop, reference, "the evidence on the listed paths")]


def _verdict(name: str, drop: float, at_random: float, what: str) -> ExplanationCheck:
    is_passed = drop > at_random
    return ExplanationCheck(
        name=name,
        value=drop,
        reference=at_random,
        is_passed=is_passed,
        sentence=f"Without {what} the probability changes by {-drop:+.3f}, "
        f"without as much elsewhere by {-at_random:+.3f}.",
    )


def _chance(diagnoser: "Diagnoser", features: CaseFeatures, task: TaskSpec, index: int) -> float:
    with torch.no_grad():
        logits = diagnoser.model(collate([features], diagnoser.reader)).logits[task.name]
    return float(probabilities(logits, task.kind, task.calibration.temperature)[0, index])


def _on_model_grid(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Source values (I, J, K) at the network's cells (D, H, W), nearest; enough to rank cells."""
    depth, height, width = shape
    i, j, k = values.shape
    edge = max(i, j)
    padded = np.zeros((edge, edge, k), dtype=np.float32)
    padded[(edge - i) // 2 : (edge - i) // 2 + i, (edge - j) // 2 : (edge - j) // 2 + j] = values
    rows = [((np.arange(n) + 0.5) * size / n).astype(int) for n, size in ((depth, k), (height, edge), (width, edge))]
    return padded.transpose(2, 1, 0)[np.ix_(*rows)]
