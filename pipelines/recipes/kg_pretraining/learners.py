"""How the two models learn: by cross-entropy of the true answer among candidates.

For the free vectors the candidates are all concepts at once. A network's states cost a pass over neighbourhoods, so its
candidates are the batch's own concepts and random ones.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kg import KnowledgeGraph
from medmm.encoders.graph import N_RELATIONS
from pipelines.recipes.kg_pretraining.messages import Messages
from pipelines.recipes.kg_pretraining.model import FreeVectors, LinkPredictor, moduli
from pipelines.recipes.kg_pretraining.questions import AnswerBook, Questions

Layer = Literal["gat", "gatv2", "complex"]
LOG_SUM_CHUNK = 64  # questions whose logits of all concepts stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """Sizes and seeds. A network draws `fan_out` neighbours a hop and `n_random` concepts as further candidates.

    `n3` weighs the nuclear 3-norm of the free vectors (Lacroix et al., ICML 2018).
    """

    layer: Layer = "gatv2"
    width: int = 64
    steps: int = 300
    batch: int | None = None  # questions a step: 1,024 for a network, 256 for free vectors
    n_random: int = 2048
    fan_out: tuple[int, ...] = (6, 3)
    n3: float = 0.005
    learning_rate: float | None = None  # .003 for a network under AdamW, .1 for free vectors under Adagrad
    n_validated: int = 500
    n_tested: int = 5000
    seed: int = 0


class NetworkLearner:
    """A network learns from questions drawn at random, within sampled neighbourhoods that hide what is asked."""

    def __init__(self, messages: Messages, train: Questions, settings: PretrainSettings) -> None:
        assert settings.layer != "complex"
        self.messages, self.train, self.settings = messages, train, settings
        self.batch = settings.batch or 1024
        self.answers = AnswerBook(train)
        self.generator = np.random.default_rng(settings.seed)
        self.model = LinkPredictor(settings.width, settings.layer)
        rate = settings.learning_rate or 3e-3
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, rate, total_steps=settings.steps)
        self.log_chance = torch.from_numpy(np.log(self._chance_as_candidate())).float()

    def step(self) -> float:
        loss = self._loss()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def _loss(self) -> Tensor:
        """Sampled cross-entropy, corrected for how likely a concept is a candidate (Bengio and Senecal 2008)."""
        asked = self.train.take(self.generator.integers(0, len(self.train), self.batch))
        random = self.generator.integers(0, self.messages.n_concepts, self.settings.n_random)
        pool = np.unique(np.concatenate([asked.anchor, asked.answer, random]))
        around = self.messages.around(pool, self.settings.fan_out, (asked.anchor, asked.answer), self.generator)
        states = self.model.states(around.nodes, around.edges, around.relations)
        candidates = states[torch.from_numpy(np.searchsorted(around.concepts, pool))]
        anchor, truth = np.searchsorted(pool, asked.anchor), torch.from_numpy(np.searchsorted(pool, asked.answer))
        questions = self.model.ask(candidates[torch.from_numpy(anchor)], torch.from_numpy(asked.relation))
        logits = questions @ candidates.T - self.log_chance[torch.from_numpy(pool)]
        return cross_entropy(logits.masked_fill(self._other_answers(asked, pool), float("-inf")), truth)

    def _other_answers(self, asked: Questions, pool: np.ndarray) -> Tensor:
        """(B, P) where a candidate is a true answer too, but not the one asked for."""
        row, answer = self.answers.of(asked.keys)
        at = np.minimum(np.searchsorted(pool, answer), len(pool) - 1)
        is_other = (pool[at] == answer) & (answer != asked.answer[row])
        found = np.zeros((len(asked), len(pool)), dtype=bool)
        found[row[is_other], at[is_other]] = True
        return torch.from_numpy(found)

    def _chance_as_candidate(self) -> np.ndarray:
        """(V,) the chance that a concept is among a step's candidates, as a question's end or by the random draw."""
        ends, count = np.concatenate([self.train.anchor, self.train.answer]), self.messages.n_concepts
        drawn = np.bincount(ends, minlength=count) / len(self.train) * self.batch + self.settings.n_random / count
        result: np.ndarray = -np.expm1(-drawn)
        return result

    @torch.no_grad()
    def embeddings(self) -> np.ndarray:
        """States (V, H) of every concept from one pass over all messages."""
        around = self.messages.everything()
        result: np.ndarray = self.model.states(around.nodes, around.edges, around.relations).numpy()
        return result


class _LogSums(torch.autograd.Function):
    """Sum over questions (B, H) of weight (B,) x log of the sum over all concepts (V, H) of exp(dot product).

    The gradient is taken on the way, a few questions at a time: four times as fast as keeping (B, V) logits for it.
    """

    @staticmethod
    def forward(ctx: Any, questions: Tensor, concepts: Tensor, weights: Tensor) -> Tensor:
        total, to_questions, to_concepts = torch.zeros(()), torch.empty_like(questions), torch.zeros_like(concepts)
        for start in range(0, len(questions), LOG_SUM_CHUNK):
            part = slice(start, start + LOG_SUM_CHUNK)
            shares = questions[part] @ concepts.T  # (C, V), turned into softmax x weight in place
            highest, weight = shares.amax(dim=1, keepdim=True), weights[part, None]
            sums = shares.sub_(highest).exp_().sum(dim=1, keepdim=True)
            total += (weight * (sums.log() + highest)).sum()
            shares.mul_(weight / sums)
            to_questions[part] = shares @ concepts
            to_concepts.addmm_(shares.T, questions[part])
        ctx.save_for_backward(to_questions, to_concepts)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        to_questions, to_concepts = ctx.saved_tensors
        return upstream * to_questions, upstream * to_concepts, None


class VectorLearner:
    """Free vectors learn from distinct questions with all their answers, against all concepts at once.

    Questions are drawn without replacement, a pass at a time; each answer weighs the same, so a pass is one over all
    training relations.
    """

    def __init__(self, graph: KnowledgeGraph, train: Questions, settings: PretrainSettings) -> None:
        self.answers, self.settings, self.batch = AnswerBook(train), settings, settings.batch or 256
        self.generator = np.random.default_rng(settings.seed)
        self.model = FreeVectors(settings.width, graph.n_concepts)
        self.optimiser = torch.optim.Adagrad(self.model.parameters(), lr=settings.learning_rate or 0.1)
        self.left = np.zeros(0, dtype=np.int64)

    def step(self) -> float:
        if not len(self.left):
            self.left = self.generator.permutation(self.answers.keys)
        keys, self.left = self.left[: self.batch], self.left[self.batch :]
        fit, penalty = self._losses(keys)
        self.optimiser.zero_grad()
        (fit + self.settings.n3 * penalty).backward()
        self.optimiser.step()
        return float(fit.detach())

    def _losses(self, keys: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy over all answers of the questions, and their mean nuclear 3-norm."""
        row, answer = (torch.from_numpy(part) for part in self.answers.of(keys))
        anchors = self.model.concept(torch.from_numpy(keys // N_RELATIONS))
        relations = torch.from_numpy(keys % N_RELATIONS)
        questions = self.model.ask(anchors, relations)
        n_answers = torch.bincount(row, minlength=len(keys)).float()
        answered = (questions[row] * self.model.concept(answer)).sum()
        total = _LogSums.apply(questions, self.model.concept.weight, n_answers) - answered
        parts = (anchors[row], self.model.relation(relations)[row], self.model.concept(answer))
        penalty = torch.stack([(moduli(part) ** 3).sum() for part in parts]).sum()
        return total / len(row), penalty / len(row)

    def embeddings(self) -> np.ndarray:
        """The vectors (V, H) themselves."""
        result: np.ndarray = self.model.concept.weight.detach().numpy().copy()
        return result


Learner = NetworkLearner | VectorLearner
