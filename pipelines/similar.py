"""An index of cases by what a model makes of them, and the search in it: exact, by cosine.

A folder with `index.json` (cases, labels, concepts, which model) and `embeddings.safetensors`. Cases of a folder are
known by opaque id only. Kinds: `fused` (the whole case), `image`, `text` (one modality), `graph` (the concepts found).
A model with a joint space also finds images by text and text by images.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch.nn.functional import normalize

from medmm.config import MODALITIES
from medmm.diagnose import Diagnoser
from medmm.errors import UsageError
from medmm.inputs import CaseView, collate
from medmm.results import SimilarCase
from medmm.types import Case

ABOUT, VECTORS = "index.json", "embeddings.safetensors"
Kind = Literal["fused", "image", "text", "graph"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ROW_OF: Mapping[str, int] = {"image": MODALITIES.index("volume"), "text": MODALITIES.index("text")}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEmbedding:
    """What a model makes of one case. `vectors` (F,) by kind, of length 1, only of what the case has.

    `joint_image` and `joint_text` are in the model's joint space, where there is one. `concepts`: weight by concept.
    """

    vectors: Mapping[str, np.ndarray]
    concepts: Mapping[str, float] = field(default_factory=dict)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    case: str
    labels: dict[str, str] = {}
    concepts: dict[str, float] = {}


class _About(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1] = 1
    model: str
    weights_sha256: str
    cases: tuple[_Entry, ...]


@torch.no_grad()
def embed_case(diagnoser: Diagnoser, case: Case) -> CaseEmbedding:
    """Return a case's vectors and concepts.

    Raises:
        InputError: Where a volume cannot be used.
    """
    view = diagnoser.view(case)
    model, inputs = diagnoser.model, collate([view.features], diagnoser.reader)
    fused = model.fusion(model.tokens(inputs), inputs.present)
    vectors = {"fused": _unit(fused.case[0])} if bool(inputs.present.any()) else {}
    present = {kind: bool(inputs.present[0, row]) for kind, row in _ROW_OF.items()}
    vectors |= {kind: _unit(fused.own[0, row]) for kind, row in _ROW_OF.items() if present[kind]}
    if model.config.joint_width is not None:
        joint = model.joint(fused.own)[0]
        vectors |= {f"joint_{kind}": _unit(joint[row]) for kind, row in _ROW_OF.items() if present[kind]}
    return CaseEmbedding(vectors=vectors, concepts=_concepts(view))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityIndex:
    """Embeddings of known cases, made by one model."""

    about: _About
    vectors: Mapping[str, np.ndarray]

    @classmethod
    def build(
        cls, diagnoser: Diagnoser, embedded: Iterable[tuple[str, CaseEmbedding, Mapping[str, str]]]
    ) -> "SimilarityIndex":
        """Return an index of cases: id, embedding, known labels.

        Raises:
            UsageError: `config.table` where there is no case, or one is there twice.
        """
        rows = list(embedded)
        names = [name for name, _, _ in rows]
        if not rows or len(set(names)) != len(names):
            raise UsageError(
                f"Expected cases to index, each once (got {len(names)}, {len(set(names))} of them different).",
                code="config.table",
            )
        entries = tuple(
            _Entry(case=name, labels=dict(labels), concepts=dict(embedding.concepts))
            for name, embedding, labels in rows
        )
        kinds = sorted({kind for _, embedding, _ in rows for kind in embedding.vectors})
        vectors = {kind: _stack([embedding.vectors.get(kind) for _, embedding, _ in rows]) for kind in kinds}
        about = _About(model=diagnoser.spec.name, weights_sha256=diagnoser.spec.weights_sha256, cases=entries)
        return cls(about=about, vectors=vectors)

    def write(self, folder: Path) -> None:
        """Write the index, the vectors first."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(value) for name, value in self.vectors.items()}, folder / VECTORS)
        (folder / ABOUT).write_text(self.about.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def check(self, diagnoser: Diagnoser) -> None:
        """Raise if another model made the index: its vectors mean something else.

        Raises:
            UsageError: `model.mismatch`.
        """
        if self.about.weights_sha256 != diagnoser.spec.weights_sha256:
            raise UsageError(
                f"Expected the model that the index was made with, {self.about.model} "
                f"{self.about.weights_sha256[:12]} (got {diagnoser.spec.name} {diagnoser.spec.weights_sha256[:12]}).",
                code="model.mismatch",
                remedy="Name that model, or build the index again.",
            )

    def search(
        self, query: CaseEmbedding, by: Kind = "fused", find: Kind | None = None, top: int = 5
    ) -> tuple[SimilarCase, ...]:
        """Return the most similar cases, best first; a case without what is compared is left out.

        Args:
            query: The case asked about; it may be in the index itself.
            by: What of the query is compared.
            find: What of the indexed cases; the same by default, else image by text or text by image.
            top: How many.
        Raises:
            UsageError: `modality.missing` where the query has nothing of that kind; `model.mismatch` where the model
                has no joint space for one kind to find another.
        """
        if by == "graph" and find in (None, "graph"):
            scores = self._by_concepts(query.concepts)
        else:
            scores = self._by_vectors(query, by, find or by)
        order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:top]
        entries = self.about.cases
        return tuple(
            SimilarCase(case_id=entries[row].case, similarity=float(scores[row]), labels=entries[row].labels)
            for row in order.tolist()
            if np.isfinite(scores[row])
        )

    def _by_vectors(self, query: CaseEmbedding, by: Kind, find: Kind) -> np.ndarray:
        mine, theirs = (by, find) if by == find else (f"joint_{by}", f"joint_{find}")
        if by != find and theirs not in self.vectors:
            raise UsageError(
                f"Expected a model with a joint space of image and text to find {find} by {by} (it has none).",
                code="model.mismatch",
                remedy="Train one with joint_width set and the contrastive objective.",
            )
        if mine not in query.vectors:
            raise _nothing(by)
        if theirs not in self.vectors:
            return np.full(len(self.about.cases), np.nan)
        return self.vectors[theirs] @ query.vectors[mine]

    def _by_concepts(self, concepts: Mapping[str, float]) -> np.ndarray:
        """Cosine of the concepts' weights; denied ones count against."""
        if not concepts:
            raise _nothing("graph")
        length = np.linalg.norm(list(concepts.values()))
        scores = []
        for entry in self.about.cases:
            shared = sum(weight * entry.concepts.get(concept, 0.0) for concept, weight in concepts.items())
            other = np.linalg.norm(list(entry.concepts.values())) if entry.concepts else np.nan
            scores.append(shared / (length * other))
        return np.array(scores)


def read_index(folder: Path) -> SimilarityIndex:
    """Return the index in a folder.

    Raises:
        UsageError: `config.table` where there is none, or it is not whole.
    """
    try:
        about = _About.model_validate(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        vectors = load_file(folder / VECTORS)
    except FileNotFoundError as error:
        raise UsageError(
            f"Expected an index with {ABOUT} and {VECTORS} (one is missing).",
            code="config.table",
            remedy="Build it: medmm similar STUDIES --build --model NAME --index DIR",
        ) from error
    except (OSError, ValueError, ValidationError, SafetensorError) as error:
        raise UsageError(f"Expected a whole index ({type(error).__name__}).", code="config.table") from error
    if any(len(value) != len(about.cases) for value in vectors.values()):
        raise UsageError("Expected a vector for every case of the index (the counts differ).", code="config.table")
    return SimilarityIndex(about=about, vectors=vectors)


def _concepts(view: CaseView) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in view.evidence:
        if abs(item.weight) > abs(found.get(item.concept, 0.0)):
            found[item.concept] = item.weight
    return found


def _unit(vector: torch.Tensor) -> np.ndarray:
    return normalize(vector.float(), dim=0).cpu().numpy()


def _stack(rows: list[np.ndarray | None]) -> np.ndarray:
    """(N, F); NaN for a case without one."""
    width = next(len(row) for row in rows if row is not None)
    return np.stack([np.full(width, np.nan, np.float32) if row is None else row for row in rows])


def _nothing(kind: str) -> UsageError:
    return UsageError(f"Expected a case with {kind} to compare (it has none).", code="modality.missing")
