"""Which pictures and texts belong together: near in a learned space, and of the same location, modality and plane."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.recipes.radiology_cases.experts import Experts
from pipelines.recipes.radiology_cases.features import Features
from pipelines.recipes.radiology_cases.labels import PICTURE_TASKS, Labels
from pipelines.recipes.radiology_cases.pairing import Pairing, fit_pairing
from pipelines.training.linear import Linear, fit_linear

ATTRIBUTES = (
    "location",
    "modality",
    "plane",
)  # what captions and findings say of a picture
_ATTRIBUTE_C = 25.0
_NEARNESS = 4.0  # weight of similarity beside log-chances of attributes
_FLOOR = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The joint space, and what vectors of captions and findings say of the picture's attributes."""

    pairing: Pairing
    attributes: Mapping[str, Linear]


def fit_matching(features: Features, labels: Labels, experts: Experts) -> Matching:
    """Return a matching learned from the pictures, captions and findings of the cases that have labels."""
    kept = np.flatnonzero(labels.known[features.owner])
    owner = features.owner[kept]
    said = np.stack([features.caption_vectors[kept], features.finding_vectors[owner]], axis=1)
    looks = experts.standard_pictures(features.pictures[kept])
    return Matching(
        pairing=fit_pairing(looks, said, owner),
        attributes={
            task: fit_linear(
                said.reshape(-1, said.shape[-1]),
                np.repeat(labels.picture[task][kept], 2),
                len(PICTURE_TASKS[task]),
                c=_ATTRIBUTE_C,
            )
            for task in ATTRIBUTES
        },
    )


def match(
    matching: Matching,
    experts: Experts,
    features: Features,
    chances: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return scores of pictures (P) against `captions` (P, P) and against the `findings` of cases (P, N).

    Args:
        matching: Learned on other cases, as `experts`.
        experts: For how they standardise pictures.
        features: The cases.
        chances: Class probabilities (P, L) of the pictures by task.
    """
    seen = matching.pairing.pictures(experts.standard_pictures(features.pictures))
    found: dict[str, np.ndarray] = {}
    for name, vectors in (
        ("captions", features.caption_vectors),
        ("findings", features.finding_vectors),
    ):
        total = _NEARNESS * seen @ matching.pairing.texts(vectors).T
        for task in ATTRIBUTES:
            said = matching.attributes[task].probabilities(vectors)
            prior = said.mean(axis=0) if len(said) else 1.0
            total = total + np.log((chances[task] / prior) @ said.T + _FLOOR)
        found[name] = total
    return found
