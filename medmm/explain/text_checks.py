"""Tests of word attributions: comprehensiveness and sufficiency (DeYoung et al., ERASER, ACL 2020), against random."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from medmm.config import TaskSpec
from medmm.explain.removal import chances_of
from medmm.explain.text import mask_words
from medmm.inputs import CaseReader, CaseView
from medmm.results import NOTICEABLE, ExplanationCheck, WordAttribution

FRACTIONS = (0.05, 0.1, 0.2, 0.5)  # of the words; each step counts alike
N_RANDOM = 3


def check_words(
    reader: CaseReader,
    view: CaseView,
    task: TaskSpec,
    target: int,
    words: Sequence[WordAttribution],
    rng: np.random.Generator,
) -> list[ExplanationCheck]:
    """Return both tests; none where there is no word. The graph's evidence stays: the encoder's words are tested."""
    if not words or reader.text_encoder is None or view.case.report is None:
        return []
    full = float(chances_of(reader, view.features, task)[target])
    ranked = sorted(words, key=lambda item: (-item.value, item.start))
    own = _falls(reader, view, task, target, ranked, full)
    draws = [
        _falls(reader, view, task, target, [ranked[row] for row in rng.permutation(len(ranked))], full)
        for _ in range(N_RANDOM)
    ]
    comprehensiveness, sufficiency = own
    chance_comprehensiveness, chance_sufficiency = (float(value) for value in np.mean(draws, axis=0))
    return [
        ExplanationCheck(
            name="word comprehensiveness",
            value=comprehensiveness,
            reference=chance_comprehensiveness,
            is_passed=comprehensiveness - chance_comprehensiveness >= NOTICEABLE,
            sentence=f"Without the words that counted most the probability changes by {-comprehensiveness:+.3f} on "
            f"average, without as many words at random by {-chance_comprehensiveness:+.3f}.",
        ),
        ExplanationCheck(
            name="word sufficiency",
            value=sufficiency,
            reference=chance_sufficiency,
            is_passed=chance_sufficiency - sufficiency >= NOTICEABLE,
            sentence=f"With nothing but the words that counted most the probability changes by {-sufficiency:+.3f} on "
            f"average, with as many words at random by {-chance_sufficiency:+.3f}.",
        ),
    ]


def _falls(
    reader: CaseReader, view: CaseView, task: TaskSpec, target: int, ranked: Sequence[WordAttribution], full: float
) -> tuple[float, float]:
    """Mean fall of the target's probability without the first words, and with nothing but them."""
    without, only = [], []
    for fraction in FRACTIONS:
        count = max(1, round(len(ranked) * fraction))
        without.append(full - _chance(reader, view, task, target, ranked[:count]))
        only.append(full - _chance(reader, view, task, target, ranked[count:]))
    return float(np.mean(without)), float(np.mean(only))


def _chance(
    reader: CaseReader, view: CaseView, task: TaskSpec, target: int, masked: Sequence[WordAttribution]
) -> float:
    encoder, report = reader.text_encoder, view.case.report
    assert encoder is not None and report is not None  # checked by the caller
    encoded = encoder.encode(mask_words(report.text, masked, encoder.tokenizer.mask_token))
    with torch.no_grad():
        states = encoder.sentences(encoder.states(encoded), encoded)
    return float(chances_of(reader, replace(view.features, text=states), task)[target])
