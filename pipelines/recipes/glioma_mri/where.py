"""Train the trunk for one fold (or on everyone) and keep its weights and its out-of-fold masks."""

import json
import logging
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from medmm.encoders.slice_unet import SliceUNet
from medmm.encoders.trunks import build_trunk
from pipelines.recipes.glioma_mri.data import ROLES, Patient, fold_of_patients, read_example, read_patients
from pipelines.statistics.masks import dice
from pipelines.training.augment import Augmentation
from pipelines.training.trainer import Watch
from pipelines.training.where import WhereSettings, region_probabilities, train_where

logger = logging.getLogger(__name__)

SETTINGS = WhereSettings(
    trunk="lite",
    epochs=15,
    learning_rate=2e-3,
    precision="32-true",  # the encoder's depthwise convolutions learn slower in bfloat16 on a CPU that has it
    augmentation=Augmentation(drop_sequence=(0.15, 0.05, 0.25)),
)
EVERYONE = "all"


def site_name(site: str) -> str:
    """The name of the fold that leaves a site out."""
    return f"site-{site}"


def trunk_file(work: Path, name: str) -> Path:
    """Where `where` leaves the trunk of that name."""
    return work / f"trunk-{name}.safetensors"


def read_trunk(work: Path, name: str) -> SliceUNet:
    """Return the trunk of that name, for looking.

    Raises:
        FileNotFoundError: `where` has not trained it.
    """
    trunk = build_trunk(SETTINGS.trunk, len(ROLES), 1, SETTINGS.widths)
    trunk.load_state_dict(load_file(trunk_file(work, name)))
    return trunk.eval()


def train_fold(data: Path, out: Path, fold: str, settings: WhereSettings = SETTINGS, *, progress: bool = True) -> None:
    """Train without the patients of `fold` and write into `out`; "0" to "4", "site-CS" and so on, or "all" for nobody.

    Writes `trunk-<fold>.safetensors` and `dice-<fold>.json`: the overlap of each patient left out.
    """
    patients = read_patients(data)
    examples = [read_example(patient) for patient in patients]
    held_out = _held_out(patients, fold)
    trunk = train_where(
        [example for example, is_out in zip(examples, held_out, strict=True) if not is_out],
        settings,
        watch=Watch(progress=progress),
    ).trunk
    trunk.half().float()  # what is measured is what is shipped, in half the space
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, trunk_file(out, fold))
    scores = {
        example.case: dice(region_probabilities(trunk, example) > 0.5, example.regions)
        for example, is_out in zip(examples, held_out, strict=True)
        if is_out
    }
    (out / f"dice-{fold}.json").write_text(json.dumps(scores, indent=1), encoding="utf-8")
    if scores:
        values = np.array(list(scores.values()))
        logger.info("fold %s: Dice mean %.3f, median %.3f", fold, values.mean(), np.median(values))


def _held_out(patients: list[Patient], fold: str) -> np.ndarray:
    """Whom a fold leaves out (N,)."""
    if fold == EVERYONE:
        return np.zeros(len(patients), dtype=bool)
    sites = np.array([site_name(patient.site) for patient in patients])
    if fold in sites:
        return sites == fold
    return fold_of_patients(patients) == int(fold)
