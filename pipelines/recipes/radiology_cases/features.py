"""What is computed of cases before anything is learned: picture features, text vectors, what the graph says."""

import hashlib
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from kg import KnowledgeGraph, Linker
from kg.ranking import evidence_seeds
from kg.retrieval import CandidateRanker, build_candidates, log_visits
from medmm.device import is_bfloat16_fast
from pipelines.recipes.radiology_cases.cases import CaseInput, Diagnosis
from pipelines.recipes.radiology_cases.keeping import kept
from pipelines.recipes.radiology_cases.pictures import read_pictures
from pipelines.recipes.radiology_cases.texts import TextVectors, sentences

logger = logging.getLogger(__name__)

TEXT_SETTINGS = ("h", "he", "hef")
_PICTURES_AT_ONCE = 32
_WALKS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TextViews:
    """How every diagnosis (n) fits the text of every case (N), by view; and the vector (N, 384) of the whole text."""

    texts: tuple[str, ...]
    vectors: np.ndarray
    name_whole: np.ndarray
    name_sentence: np.ndarray
    graph_sentences: np.ndarray
    graph_walk: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """(N,) whether the case has any text."""
        return np.array([bool(text) for text in self.texts])

    def only(self, rows: np.ndarray) -> "TextViews":
        """Return the views of the cases where `rows` (N,) is true."""
        arrays = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "texts"}
        texts = tuple(text for text, is_kept in zip(self.texts, rows, strict=True) if is_kept)
        return TextViews(texts=texts, **arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Cases (N), their pictures (P, F) and whose they are (P,), text views by setting, vectors of what was written."""

    cases: tuple[CaseInput, ...]
    pictures: np.ndarray
    owner: np.ndarray
    views: Mapping[str, TextViews]
    caption_vectors: np.ndarray
    finding_vectors: np.ndarray

    @property
    def files(self) -> tuple[str, ...]:
        """File names of the pictures (P)."""
        return tuple(one.file for case in self.cases for one in case.pictures)

    @property
    def captions(self) -> tuple[str, ...]:
        """Captions of the pictures (P)."""
        return tuple(one.caption for case in self.cases for one in case.pictures)

    def only(self, rows: np.ndarray) -> "Features":
        """Return the features of the cases where `rows` (N,) is true."""
        shown = rows[self.owner]
        return Features(
            cases=tuple(case for case, is_kept in zip(self.cases, rows, strict=True) if is_kept),
            pictures=self.pictures[shown],
            owner=(np.cumsum(rows) - 1)[self.owner[shown]],
            views={setting: view.only(rows) for setting, view in self.views.items()},
            caption_vectors=self.caption_vectors[shown],
            finding_vectors=self.finding_vectors[rows],
        )


def joined(parts: Sequence[Features]) -> Features:
    """Return the features of several lists of cases as those of one."""
    bounds = np.cumsum([0, *(len(part.cases) for part in parts)])
    views: dict[str, TextViews] = {}
    for setting in parts[0].views:
        own = [part.views[setting] for part in parts]
        arrays = {
            field.name: np.concatenate([getattr(view, field.name) for view in own])
            for field in fields(TextViews)
            if field.name != "texts"
        }
        views[setting] = TextViews(texts=tuple(text for view in own for text in view.texts), **arrays)
    return Features(
        cases=tuple(case for part in parts for case in part.cases),
        pictures=np.concatenate([part.pictures for part in parts]),
        owner=np.concatenate([part.owner + start for part, start in zip(parts, bounds[:-1], strict=True)]),
        views=views,
        caption_vectors=np.concatenate([part.caption_vectors for part in parts]),
        finding_vectors=np.concatenate([part.finding_vectors for part in parts]),
    )


class FeatureReader:
    """Computes features of cases; what is slow is kept in the work folder under a hash of what it was made from."""

    def __init__(
        self,
        diagnoses: Sequence[Diagnosis],
        graph: KnowledgeGraph,
        work: Path | None = None,
    ) -> None:
        self.diagnoses, self.graph, self.work = tuple(diagnoses), graph, work
        self.text_vectors = TextVectors(None if work is None else work / "texts.safetensors")
        self.names = self.text_vectors([one.names[0] for one in self.diagnoses])

    def read(self, cases: Sequence[CaseInput], images: Path) -> Features:
        """Return the features of cases whose pictures lie in the folder `images`.

        Raises:
            UsageError: `config.table` for a picture that cannot be read.
        """
        files = [one.file for case in cases for one in case.pictures]
        captions = [one.caption for case in cases for one in case.pictures]
        return Features(
            cases=tuple(cases),
            pictures=self._pictures(images, files),
            owner=np.repeat(np.arange(len(cases)), [len(case.pictures) for case in cases]),
            views={setting: self._views([text_of(case, setting) for case in cases]) for setting in TEXT_SETTINGS},
            caption_vectors=self.text_vectors(captions),
            finding_vectors=self.text_vectors([case.findings for case in cases]),
        )

    def _pictures(self, images: Path, files: Sequence[str]) -> np.ndarray:
        squares = read_pictures(images, files)
        name = f"pictures-{_digest(squares.tobytes())}"
        return kept(self.work, name, lambda: {"features": picture_features(squares)})["features"]

    def _views(self, texts: Sequence[str]) -> TextViews:
        parts = [sentences(text) for text in texts]
        vectors = self.text_vectors(texts)
        flat = self.text_vectors([part for group in parts for part in group]) @ self.names.T
        bounds = np.cumsum([0, *(len(group) for group in parts)])
        best = [
            flat[start:stop].max(axis=0) if stop > start else np.zeros(len(self.names))
            for start, stop in itertools.pairwise(bounds)
        ]
        found = self._graph_views(texts)
        return TextViews(
            texts=tuple(texts),
            vectors=vectors,
            name_whole=vectors @ self.names.T,
            name_sentence=np.stack(best) if best else np.zeros((0, len(self.names))),
            graph_sentences=found["sentences"],
            graph_walk=found["walk"],
        )

    def _graph_views(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        made_from = [
            self.graph.hash,
            [(one.key, one.names) for one in self.diagnoses],
            list(texts),
        ]
        name = f"graph-{_digest(json.dumps(made_from).encode())}"
        return kept(self.work, name, lambda: graph_views(self.graph, self.diagnoses, texts))


def text_of(case: CaseInput, setting: str) -> str:
    """Return what a setting lets a reader see of a case's text: h history, e exam, f findings."""
    parts = {"h": case.history, "e": case.exam, "f": case.findings}
    return "\n".join(text.strip() for letter, text in parts.items() if letter in setting and text.strip())


@torch.no_grad()
def picture_features(squares: np.ndarray) -> np.ndarray:
    """Return float32 (P, F) of grey squares (P, S, S): mean and largest activations, mirrored ones too."""
    from medmm.encoders.lite_network import WIDTH, load_lite_network

    network = load_lite_network()
    rows = [np.zeros((0, 2 * WIDTH), dtype=np.float32)]
    for start in range(0, len(squares), _PICTURES_AT_ONCE):
        part = torch.from_numpy(squares[start : start + _PICTURES_AT_ONCE])[:, None].float() / 255
        sides = []
        for pictures in (part, part.flip(-1)):
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16_fast(torch.device("cpu"))):
                maps = network(pictures).float()
            sides.append(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1))
        rows.append(torch.stack(sides).mean(dim=0).numpy())
        logger.info("Looked at %d of %d pictures.", start + len(part), len(squares))
    return np.concatenate(rows)


def graph_views(graph: KnowledgeGraph, diagnoses: Sequence[Diagnosis], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return scores (N, n) of the diagnoses: `sentences` of the graph's sources, and the `walk`, on a log scale."""
    linker = Linker(graph)
    ranker = CandidateRanker(linker, build_candidates(linker, {one.key: one.names for one in diagnoses}))
    seeds = [evidence_seeds(graph, mentions) for mentions in linker.link_batch(texts)]
    walk = [np.zeros((0, len(diagnoses)))]
    for start in range(0, len(seeds), _WALKS_AT_ONCE):
        visits = graph.personalised_pagerank_batch(seeds[start : start + _WALKS_AT_ONCE])
        walk.append(np.stack([log_visits(ranker.scores_from(one)) for one in visits]))
    said = [ranker.sentence_scores(text) for text in texts]
    return {
        "sentences": np.stack(said) if said else np.zeros((0, len(diagnoses))),
        "walk": np.concatenate(walk),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
