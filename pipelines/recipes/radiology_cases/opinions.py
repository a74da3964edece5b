"""What the experts say: scores of every candidate by view, for all tasks but T4. Nothing here looks at a label."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.recipes.radiology_cases.experts import Experts, by_setting, centred_names, record_vectors
from pipelines.recipes.radiology_cases.features import Features, TextViews
from pipelines.recipes.radiology_cases.pool import (
    log_chances,
    mean_by,
    standardised,
    to_probabilities,
)

Scores = dict[str, np.ndarray]
# The ranking that the graph expert reads its classes from, before anything is learned: R@10 of T3 on train, .64 of hef.
LABEL_FREE = {"sentences": 0.5, "walk": 0.1, "name_whole": 0.5, "name_sentence": 0.35}


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What is left out, by name: `pictures`, `text`, `record`, `graph`. For ablations; nothing by default."""

    without: frozenset[str] = frozenset()

    def keeps(self, modality: str) -> bool:
        """Whether a modality is used."""
        return modality not in self.without


def picture_chances(experts: Experts, features: Features) -> Scores:
    """Return class probabilities (P, L) by picture task."""
    looks = experts.standard_pictures(features.pictures)
    return {task: linear.probabilities(looks) for task, linear in experts.pictures.items()}


def case_opinions(
    experts: Experts,
    features: Features,
    chances: Scores,
    task: str,
    setting: str,
    controls: Controls,
) -> Scores:
    """Return log-chances (N, L) of a case task's classes by view; a view with nothing to look at is 0 throughout."""
    views: Scores = {}
    if "images" in setting and controls.keeps("pictures"):
        views["pictures"] = mean_by(features.owner, log_chances(chances[task]), len(features.cases))
    letters = setting.partition("_")[0]
    if letters in features.views:
        texts, key = features.views[letters], by_setting(task, letters)
        if controls.keeps("text"):
            views["words"] = log_chances(experts.words[key].probabilities(experts.lexicon.vectors(texts.texts)))
            views["meaning"] = log_chances(experts.meaning[key].probabilities(texts.vectors))
        if controls.keeps("graph"):
            ranking = to_probabilities(label_free(texts, controls))
            views["graph"] = log_chances(ranking @ experts.tables[task])
        views = {
            name: view if name == "pictures" else np.where(texts.present[:, None], view, 0.0)
            for name, view in views.items()
        }
        if controls.keeps("record"):
            views["record"] = log_chances(experts.record[task].probabilities(record_vectors(features.cases)))
    return views


def label_free(texts: TextViews, controls: Controls) -> np.ndarray:
    """Return scores (N, n) of the diagnoses from the graph and their names, before anything is learned."""
    total = np.zeros_like(texts.name_whole, dtype=np.float64)
    for name, view in ranking_views(texts, controls).items():
        total += LABEL_FREE[name] * view
    return total


def ranking_views(texts: TextViews, controls: Controls) -> Scores:
    """Return standardised scores (N, n) of the diagnoses: what the graph's sources say, the walk, and the names."""
    views: Scores = {}
    if controls.keeps("graph"):
        views |= {
            "sentences": standardised(texts.graph_sentences),
            "walk": standardised(texts.graph_walk),
        }
    if controls.keeps("text"):
        views |= {
            "name_whole": standardised(texts.name_whole),
            "name_sentence": standardised(texts.name_sentence),
        }
    return views


def diagnosis_opinions(
    experts: Experts,
    features: Features,
    names: np.ndarray,
    answers: Mapping[str, np.ndarray],
    setting: str,
    controls: Controls,
) -> Scores:
    """Return scores (N, n) of the diagnoses by view.

    Args:
        experts: Fitted on other cases.
        features: The cases.
        names: (n, 384) vectors of the diagnoses' names.
        answers: Probabilities (N, L) of location and super-class in the same setting, from `case_opinions`, pooled.
        setting: `he`, `hef`, with or without `_images`.
        controls: What is left out.
    """
    texts = features.views[setting.partition("_")[0]]
    views = ranking_views(texts, controls)
    if controls.keeps("text"):
        wanted = centred_names(names).T
        by_words = experts.lexicon.vectors(texts.texts) @ experts.words_to_name
        by_meaning = (texts.vectors - experts.text_mean) @ experts.meaning_to_name
        views["learned_words"] = standardised(np.asarray(by_words) @ wanted)
        views["learned_meaning"] = standardised(by_meaning @ wanted)
    views = {name: np.where(texts.present[:, None], view, 0.0) for name, view in views.items()}
    for task, chances in answers.items():
        views[f"fits_{task}"] = np.log(chances @ experts.tables[task].T + 0.02)
    return views
