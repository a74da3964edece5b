"""Relations as questions: which concept stands at the other end? Every relation is asked from both of its ends."""

from dataclasses import dataclass

import numpy as np

from kg import KnowledgeGraph
from kg.schema import PREDICATES
from medmm.encoders.graph import N_RELATIONS

OTHER = len(PREDICATES)  # relation id of every predicate outside the fixed order
BACKWARD = OTHER + 1  # added to a relation's id where the question starts at its object


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Columns (N,) int64: (anchor, relation) asks for `answer`. The second half asks the first one backwards."""

    anchor: np.ndarray
    relation: np.ndarray
    answer: np.ndarray

    def __len__(self) -> int:
        return len(self.anchor)

    def take(self, at: np.ndarray | slice) -> "Questions":
        """Return some of the questions."""
        return Questions(anchor=self.anchor[at], relation=self.relation[at], answer=self.answer[at])

    @property
    def keys(self) -> np.ndarray:
        """(N,) one number for each (anchor, relation)."""
        return self.anchor * N_RELATIONS + self.relation


def questions_of(graph: KnowledgeGraph, rows: np.ndarray) -> Questions:
    """Return both questions of each of the graph's relations `rows` (N,): 2N of them."""
    arrays = graph.arrays
    codes = {name: at for at, name in enumerate(PREDICATES)}
    relation_of = np.array([codes.get(name, OTHER) for name in graph.predicates], dtype=np.int64)
    subject, target = arrays["subject"][rows].astype(np.int64), arrays["object"][rows].astype(np.int64)
    forward = relation_of[arrays["predicate"][rows]]
    return Questions(
        anchor=np.concatenate([subject, target]),
        relation=np.concatenate([forward, forward + BACKWARD]),
        answer=np.concatenate([target, subject]),
    )


class AnswerBook:
    """All answers of every distinct question, found by its key."""

    def __init__(self, questions: Questions) -> None:
        pairs = np.unique(np.stack([questions.keys, questions.answer]), axis=1)
        self.keys, first = np.unique(pairs[0], return_index=True)
        self.answers = pairs[1]
        self.bounds = np.append(first, len(self.answers))

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (positions in `keys`, answers), flat, of questions that may be unknown (then without answers)."""
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        counts = np.where(self.keys[at] == keys, self.bounds[at + 1] - self.bounds[at], 0)
        starts = np.repeat(self.bounds[at] - np.append(0, np.cumsum(counts)[:-1]), counts)
        return np.repeat(np.arange(len(keys)), counts), self.answers[starts + np.arange(counts.sum())]
