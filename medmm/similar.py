"""Training cases near a case, by the embedding that all its answers are read from.

A model directory may hold the embeddings of its training cases with their labels. Cases are numbered when they are
taken in, so that no name of a patient, study or file can get into a model directory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medmm.errors import UsageError
from medmm.inputs import CaseFeatures, CaseReader, collate
from medmm.results import SimilarCase

N_SIMILAR = 5
_CASES_AT_ONCE = 64  # bounds the memory that the graphs of a large cohort take
FILE = "training_cases.safetensors"
_LABELS = TypeAdapter(list[dict[str, str]])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCases:
    """Embeddings (N, F) of the training cases and what was known of each, by task."""

    embeddings: Float[Tensor, "N F"]
    labels: tuple[Mapping[str, str], ...]

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.labels):
            raise ValueError(
                f"Expected one embedding a labelled case (got {tuple(self.embeddings.shape)} and {len(self.labels)})."
            )

    def nearest(self, embedding: Float[Tensor, " F"], count: int = N_SIMILAR) -> tuple[SimilarCase, ...]:
        """Return the nearest training cases, nearest first.

        Similarity is the cosine between what sets each case apart from the mean training case: -1 to 1.
        """
        mean = self.embeddings.mean(dim=0)
        own = embedding.detach().float().cpu() - mean
        cosines = torch.nn.functional.cosine_similarity(self.embeddings - mean, own[None], dim=1)
        order = sorted(range(len(cosines)), key=lambda row: (-float(cosines[row]), row))[:count]
        return tuple(
            SimilarCase(
                case_id=f"training-{row + 1:04d}", similarity=float(cosines[row]), labels=dict(self.labels[row])
            )
            for row in order
        )

    def save(self, folder: Path) -> None:
        """Write the file into a model directory."""
        labels = json.dumps([dict(sorted(item.items())) for item in self.labels])
        save_file({"embeddings": self.embeddings.contiguous()}, folder / FILE, metadata={"labels": labels})

    @classmethod
    def load(cls, folder: Path) -> "TrainingCases":
        """Read the file of a model directory.

        Raises:
            UsageError: `model.corrupt`.
        """
        try:
            with safe_open(folder / FILE, framework="pt") as file:
                labels = _LABELS.validate_json((file.metadata() or {}).get("labels", ""))
                return cls(embeddings=file.get_tensor("embeddings").float(), labels=tuple(labels))
        except (SafetensorError, OSError, ValidationError, ValueError) as error:
            raise UsageError(
                f"Expected embeddings and labels of training cases in {FILE}.", code="model.corrupt"
            ) from error


@torch.no_grad()
def embed_training_cases(
    reader: CaseReader, features: Sequence[CaseFeatures], labels: Sequence[Mapping[str, str]]
) -> TrainingCases | None:
    """Return the trained model's embeddings of its training cases; None for a model that fuses nothing.

    Args:
        reader: The front of the trained model.
        features: The cases (N) as it read them.
        labels: The known answers of each by task; empty ones are left out.
    """
    model = reader.model.eval()
    if not model.labels.fusion_tasks():
        return None
    parts = []
    for start in range(0, len(features), _CASES_AT_ONCE):
        fused = model(collate(features[start : start + _CASES_AT_ONCE], reader)).fused
        assert fused is not None  # there are fusion tasks
        parts.append(fused.case.float().cpu())
    known = tuple({task: label for task, label in row.items() if label} for row in labels)
    return TrainingCases(embeddings=torch.cat(parts), labels=known)
