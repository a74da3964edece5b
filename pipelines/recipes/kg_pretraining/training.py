"""Train a graph attention network, or the free vectors it is held against, and rank the test relations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kg import KnowledgeGraph
from pipelines.recipes.kg_pretraining.learners import Learner, NetworkLearner, PretrainSettings, VectorLearner
from pipelines.recipes.kg_pretraining.measures import Scorer, filtered_ranks, popularity_scorer, reciprocal
from pipelines.recipes.kg_pretraining.messages import Messages, NameVectors
from pipelines.recipes.kg_pretraining.model import FreeVectors, LinkPredictor
from pipelines.recipes.kg_pretraining.questions import AnswerBook, questions_of
from pipelines.recipes.kg_pretraining.splits import LinkSplit, split_relations

N_CHECKS = 6  # points of the learning curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A point of the learning curve: mean loss since the point before, and filtered MRR on validation relations."""

    step: int
    loss: float
    validation_mrr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainResult:
    """The trained model, states of all concepts (V, H) float32, and the learning curve.

    `tested` (N,) are rows of the graph's relations; `ranks` and `popularity_ranks` (N, 2) their filtered ranks.
    """

    model: LinkPredictor | FreeVectors
    embeddings: np.ndarray
    curve: tuple[Check, ...]
    tested: np.ndarray
    ranks: np.ndarray
    popularity_ranks: np.ndarray

    def table(self) -> np.ndarray:
        """(N, 5): the tested row, its two ranks, and its two ranks by popularity."""
        return np.concatenate([self.tested[:, None], self.ranks, self.popularity_ranks], axis=1)


def pretrain(
    graph: KnowledgeGraph,
    settings: PretrainSettings,
    *,
    names: NameVectors | None = None,
    on_check: Callable[[Check], None] | None = None,
) -> PretrainResult:
    """Train a link predictor and rank the test relations with it.

    Args:
        names: (V, NAME_WIDTH) what a network knows of each name; hashed words where None.
        on_check: Called at each point of the learning curve.
    """
    torch.manual_seed(settings.seed)
    split = split_relations(graph, seed=settings.seed)
    train = questions_of(graph, split.train)
    learner: Learner
    if settings.layer == "complex":
        learner = VectorLearner(graph, train, settings)
    else:
        learner = NetworkLearner(Messages(graph, split.messages, names), train, settings)
    known = AnswerBook(
        questions_of(graph, np.flatnonzero(graph.arrays["polarity"] > 0))
    )  # stated in any split: the filter
    curve = []
    for check in _learning_curve(graph, split, known, learner, settings):
        curve.append(check)
        if on_check is not None:
            on_check(check)
    embeddings = learner.embeddings()
    tested = np.random.default_rng(settings.seed).permutation(split.test)[: settings.n_tested]
    asked = questions_of(graph, tested)
    return PretrainResult(
        model=learner.model,
        embeddings=embeddings,
        curve=tuple(curve),
        tested=tested,
        ranks=filtered_ranks(asked, known, _scorer(learner.model, embeddings)),
        popularity_ranks=filtered_ranks(asked, known, popularity_scorer(train, graph.n_concepts)),
    )


def _learning_curve(
    graph: KnowledgeGraph, split: LinkSplit, known: AnswerBook, learner: Learner, settings: PretrainSettings
) -> Iterator[Check]:
    """Train, and stop at even distances to look at the validation relations."""
    rows = np.random.default_rng(settings.seed).permutation(split.validation)[: settings.n_validated]
    asked = questions_of(graph, rows)
    stops = np.unique(np.linspace(0, settings.steps, N_CHECKS + 1).astype(int)[1:]).tolist()
    losses: list[float] = []
    for step in range(1, settings.steps + 1):
        losses.append(learner.step())
        if step in stops:
            ranks = filtered_ranks(asked, known, _scorer(learner.model, learner.embeddings()))
            yield Check(step=step, loss=float(np.mean(losses)), validation_mrr=reciprocal(ranks))
            losses.clear()


def _scorer(model: LinkPredictor | FreeVectors, embeddings: np.ndarray) -> Scorer:
    states = torch.from_numpy(embeddings)

    @torch.no_grad()
    def score(anchors: np.ndarray, relations: np.ndarray) -> np.ndarray:
        questions = model.ask(states[torch.from_numpy(anchors)], torch.from_numpy(relations))
        result: np.ndarray = (questions @ states.T).numpy()
        return result

    return score
