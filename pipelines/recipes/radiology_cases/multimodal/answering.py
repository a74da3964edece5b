"""Answers of the model in the recipe's own files, so that `evaluate` measures it beside the pool of experts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medmm.config import MODALITIES
from medmm.diagnose import Diagnoser
from medmm.heads import probabilities
from medmm.inputs import CaseFeatures
from pipelines.recipes.radiology_cases.answers import Classified, Ranked, ranked_by, write_classified, write_ranked
from pipelines.recipes.radiology_cases.multimodal.spec import DIAGNOSIS, LOCATION, SUPERCLASS
from pipelines.training.what import predict_logits

# By the setting's name in the files, the modalities that may be read.
SETTINGS = {
    "images": ("volume",),
    "hef": ("text", "record", "graph"),
    "hef_images": MODALITIES,
}
_FILES = {LOCATION: "T1_case", SUPERCLASS: "T2"}


def write_model_answers(
    diagnoser: Diagnoser, features: Sequence[CaseFeatures], ids: Sequence[str], folder: Path
) -> list[str]:
    """Write T1, T2 and T3 of the cases by setting and return the names of the files; existing ones are overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for setting, used in SETTINGS.items():
        logits = predict_logits(diagnoser.reader, features, tuple(name in used for name in MODALITIES))
        for task in diagnoser.model.labels.tasks:
            if task.name == DIAGNOSIS and setting == "images":
                continue  # no picture names a diagnosis
            values = torch.from_numpy(logits[task.name])
            chances = probabilities(values, task.kind, task.calibration.temperature).numpy()
            names = tuple(label.name for label in task.classes)
            file = f"{_FILES.get(task.name, 'T3')}_{setting}"
            written.append(file)
            if task.name == DIAGNOSIS:
                ranked = ranked_by(chances, names)
                write_ranked(folder / f"{file}.csv", Ranked(key="id", keys=tuple(ids), ranked=ranked))
            else:
                answer = Classified(key="id", keys=tuple(ids), classes=names, probabilities=np.asarray(chances))
                write_classified(folder / f"{file}.csv", answer)
    return written
