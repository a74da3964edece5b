"""Train the trunk for one fold (or on everyone) and keep its weights and its out-of-fold masks."""

import json
import logging
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from pipelines.recipes.glioma_mri.data import fold_of_patients, read_example, read_patients
from pipelines.statistics.masks import dice
from pipelines.training.augment import Augmentation
from pipelines.training.trainer import Watch
from pipelines.training.where import WhereSettings, region_probabilities, train_where

logger = logging.getLogger(__name__)

SETTINGS = WhereSettings(augmentation=Augmentation(drop_sequence=(0.15, 0.05, 0.25)))
EVERYONE = "all"


def train_fold(data: Path, out: Path, fold: str, settings: WhereSettings = SETTINGS, *, progress: bool = True) -> None:
    """Train without the patients of `fold` ("0".."4", or "all" to leave nobody out) and write into `out`.

    Writes `trunk-<fold>.safetensors` and `dice-<fold>.json`: the overlap of each patient left out.
    """
    patients = read_patients(data)
    examples = [read_example(patient) for patient in patients]
    held_out = np.zeros(len(patients), dtype=bool) if fold == EVERYONE else fold_of_patients(patients) == int(fold)
    trunk = train_where(
        [example for example, is_out in zip(examples, held_out, strict=True) if not is_out],
        settings,
        watch=Watch(progress=progress),
    ).trunk
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in trunk.state_dict().items()}, out / f"trunk-{fold}.safetensors"
    )
    scores = {
        example.case: dice(region_probabilities(trunk, example) > 0.5, example.regions)
        for example, is_out in zip(examples, held_out, strict=True)
        if is_out
    }
    (out / f"dice-{fold}.json").write_text(json.dumps(scores, indent=1), encoding="utf-8")
    if scores:
        values = np.array(list(scores.values()))
        logger.info("fold %s: Dice mean %.3f, median %.3f", fold, values.mean(), np.median(values))
