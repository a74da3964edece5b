"""Tests of an explanation on its own case: take away what it calls important, and see whether the answer notices.

The tests themselves are in `volume_checks`, `text_checks` and `graph_checks`; each compares with as much at random.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from medmm.config import TaskSpec
from medmm.explain.graph_checks import check_paths
from medmm.explain.methods import VolumeMethod
from medmm.explain.question import ask
from medmm.explain.text_checks import check_words
from medmm.explain.volume_checks import RandomOrders, check_volume, random_orders
from medmm.inputs import CaseReader, CaseView
from medmm.results import ExplanationCheck, TaskExplanation


@dataclass(slots=True)
class CaseTests:
    """All tests of one case. The same case gets the same tests; random orders of the volume are followed once."""

    reader: CaseReader
    view: CaseView
    method: VolumeMethod
    at_random: RandomOrders | None = None

    def run(self, explained: TaskExplanation, task: TaskSpec, found: Tensor | None) -> tuple[ExplanationCheck, ...]:
        """Return the tests of one task's explanation; `found` is its map (S, D, H, W) on the network's grid."""
        target = task.index(explained.target)
        checks: list[ExplanationCheck] = []
        question = ask(self.reader, self.view, task, target)
        if question is not None and found is not None and explained.volumes:
            if self.at_random is None:
                self.at_random = random_orders(question, np.random.default_rng(1))
            checks += check_volume(question, self.view, found, self.method, self.at_random, np.random.default_rng(0))
        if task.source == "fusion":
            checks += check_words(self.reader, self.view, task, target, explained.words, np.random.default_rng(0))
            checks += check_paths(self.reader, self.view, task, target, explained.paths, np.random.default_rng(0))
        return tuple(checks)
