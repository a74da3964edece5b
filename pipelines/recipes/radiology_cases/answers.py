"""Answers to T1 to T5 as files: which files there are, and how they are written and read.

`image,label,p_<class>...` and `id,label,p_<class>...` hold classes; `id,ranked` and `query,ranked` hold everything that
was ranked, best first, separated by `;`. Captions are named by the file of their image, findings by their case.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmm.errors import UsageError

# What a case is answered from: h history, e exam, f findings (of the report), and its images.
SETTINGS = ("images", "h", "he", "hef", "he_images", "hef_images")
T2_SETTINGS = ("images", "he", "hef", "he_images", "hef_images")
T3_SETTINGS = ("he", "hef", "he_images", "hef_images")
RETRIEVALS = (
    "image_to_caption",
    "caption_to_image",
    "image_to_findings",
    "findings_to_image",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """A class for each of N keys: probabilities (N, L) over `classes`; `key` names the first column."""

    key: str
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An order of ids, best first, for each of N keys; `key` names the first column."""

    key: str
    keys: tuple[str, ...]
    ranked: tuple[tuple[str, ...], ...]


def write_classified(path: Path, answer: Classified) -> None:
    """Write keys, most probable class and probabilities."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([answer.key, "label", *(f"p_{name}" for name in answer.classes)])
        for key, row in zip(answer.keys, answer.probabilities, strict=True):
            writer.writerow(
                [
                    key,
                    answer.classes[int(row.argmax())],
                    *(f"{value:.5f}" for value in row),
                ]
            )


def write_ranked(path: Path, answer: Ranked) -> None:
    """Write keys and what was ranked for each."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([answer.key, "ranked"])
        writer.writerows([key, ";".join(row)] for key, row in zip(answer.keys, answer.ranked, strict=True))


def ranked_by(scores: np.ndarray, ids: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the ids ordered by scores (N, n), best first; ties in the order of the ids given."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return tuple(tuple(ids[at] for at in row) for row in order)


def read_labels(path: Path, key: str) -> dict[str, str]:
    """Return the label by key of a file of classes."""
    return {row[key]: row["label"] for row in _rows(path, (key, "label"))}


def read_probabilities(path: Path, key: str, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return probabilities (L,) by key in the order of `classes`; empty where the file has none."""
    columns = [f"p_{name}" for name in classes]
    rows = _rows(path, (key,))
    if not rows or any(column not in rows[0] for column in columns):
        return {}
    return {row[key]: np.array([float(row[column]) for column in columns]) for row in rows}


def read_ranked(path: Path, key: str) -> dict[str, list[str]]:
    """Return what was ranked by key, best first."""
    return {row[key]: [one for one in row["ranked"].split(";") if one] for row in _rows(path, (key, "ranked"))}


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(
                f"Expected the columns {', '.join(columns)} in {path.name}.",
                code="config.table",
            )
        return list(reader)
