"""What a manifest's label says, as the kinds of tasks need it. One place for training and evaluation.

exclusive, ordinal, ranking   a class: `G3`
multilabel                    the classes that are there, joined by `|`; `none` where none is
regression                    a number within the task's edges: `12.5`
survival                      the interval, or the time where the task has edges, at which follow-up ended: `12-24`;
                              `12-24+` where nothing happened
"""

import difflib
from collections.abc import Sequence

import numpy as np

from medmm.config import TaskSpec
from medmm.errors import UsageError

UNKNOWN = -1
NONE, JOIN, CENSORED = "none", "|", "+"


def names_in(task: TaskSpec, text: str) -> tuple[str, ...]:
    """Return the class names that a label holds."""
    if task.kind == "multilabel":
        return tuple(name.strip() for name in text.split(JOIN) if name.strip() not in ("", NONE))
    return (text.removesuffix(CENSORED),) if task.kind == "survival" else (text,)


def parse_label(task: TaskSpec, text: str) -> np.ndarray:
    """Return a label as an array: () class index; (L,) of 0/1 for multilabel; (2,) interval and event for survival.

    -1 everywhere where `text` is empty.

    Raises:
        UsageError: `config.table` for a name that is no class, with the nearest one.
    """
    classes = [label.name for label in task.classes]
    shape = {"multilabel": (len(classes),), "survival": (2,)}.get(task.kind, ())
    if not text:
        return np.full(shape, UNKNOWN, dtype=int)
    if task.kind == "regression":
        return np.array(_bin(task, _number(task, text)))
    if task.kind == "survival" and task.edges and names_in(task, text)[0] not in classes:
        interval = int(np.searchsorted(task.edges, _number(task, names_in(task, text)[0]), side="right"))
        return np.array([interval, int(not text.endswith(CENSORED))])
    found = [_index(task, name, classes) for name in names_in(task, text)]
    if task.kind == "multilabel":
        return np.isin(np.arange(len(classes)), found).astype(int)
    if task.kind == "survival":
        return np.array([found[0], int(not text.endswith(CENSORED))])
    return np.array(found[0])


def parse_labels(task: TaskSpec, texts: Sequence[str]) -> np.ndarray:
    """Return the labels of N cases as one array, as `medmm.heads.task_loss` takes them."""
    if not texts:
        return np.stack([parse_label(task, "")])[:0]
    return np.stack([parse_label(task, text) for text in texts])


def is_known(targets: np.ndarray) -> np.ndarray:
    """Which of N labels (N,) or (N, K) are known."""
    return targets != UNKNOWN if targets.ndim == 1 else (targets != UNKNOWN).any(axis=1)


def _number(task: TaskSpec, text: str) -> float:
    low, high = (task.edges[0], task.edges[-1]) if task.kind == "regression" else (0.0, float("inf"))
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UsageError(
            f"The manifest has a label of {task.name!r} that is no number from {low:g} to {high:g} ({text[:40]!r}).",
            code="config.table",
        )
    return value


def _bin(task: TaskSpec, value: float) -> int:
    return min(int(np.searchsorted(task.edges, value, side="right")) - 1, len(task.classes) - 1)


def _index(task: TaskSpec, name: str, classes: list[str]) -> int:
    if name in classes:
        return classes.index(name)
    near = "".join(f"Did you mean {other!r}? " for other in difflib.get_close_matches(name, classes, n=1))
    raise UsageError(
        f"The manifest has a label of {task.name!r} that is no class of the model ({name[:40]!r}).",
        code="config.table",
        remedy=f"{near}Classes are {', '.join(classes[:30])}.",
    )
