"""A missing MR sequence made from the others by a small conditional GAN, and how good it is on patients left out.

Slices of one fold's patients are the test; those of the other folds teach. Only patients with all three sequences take
part, and of them the slices that show the head in all three. Rivals: a copy of each sequence that is there, their mean,
one grey value, and a linear mixture of what is there. What the sequence is made for is measured by the mask: how well
the trunk of the test fold, which saw none of its patients, draws it from the true sequence, without one, with one made.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medmm.encoders.slice_unet import SliceUNet
from medmm.objectives.synthesis import Optimisers, SequenceSynthesis, psnr, ssim
from pipelines.recipes.glioma_mri.data import ROLES, Patient, fold_of_patients, read_example, read_patients
from pipelines.statistics import bootstrap, dice, paired_difference
from pipelines.training.trainer import mixed_seed
from pipelines.training.where import WhereExample, region_probabilities

logger = logging.getLogger(__name__)
TARGETS = ("t1ce", "flair")
TEST_FOLD = 0
MIN_HEAD = 0.05  # a slice counts where so much of it is brighter than the volume's mean
GAN = "conditional GAN"
TRUE, NONE, MIXTURE = "the true sequence", "no such sequence", "linear mixture"
Maker = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisSettings:
    """How long and how large. L1 weighs as in pix2pix; the batch is of slices."""

    steps: int = 700
    batch_size: int = 8
    learning_rate: float = 1e-3
    widths: tuple[int, int, int, int, int, int] = (16, 16, 32, 32, 64, 16)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of one patient: `given` (D, 2, H, W) and `truth` (D, 1, H, W), in deviations of their volumes."""

    given: Tensor
    truth: Tensor


def measure_synthesis(
    data: Path, target: str, settings: SynthesisSettings, trunk: SliceUNet | None = None
) -> dict[str, object]:
    """Train on the patients of the other folds; return PSNR (dB), SSIM, and with a trunk Dice, on the test fold.

    Means over each patient's slices; intervals over patients. Differences are the GAN's gain over each rival.
    """
    patients = read_patients(data)
    is_test = fold_of_patients(patients) == TEST_FOLD
    whole = [all(patient.has.values()) for patient in patients]
    teach = [_read(p, target) for p, out, has in zip(patients, is_test, whole, strict=True) if has and not out]
    test = [read_example(p) for p, out, has in zip(patients, is_test, whole, strict=True) if has and out]
    makers: dict[str, Maker] = {GAN: train_synthesis(teach, settings), **_rivals(teach, target)}
    with torch.no_grad():
        likeness = [_likeness(slices_of(example, target), makers) for example in test]
        found: dict[str, object] = {"target": target, "n_train": len(teach), "n_test": len(test)} | {
            metric: _figures({name: np.array([one[metric][name] for one in likeness]) for name in makers})
            for metric in ("psnr_db", "ssim")
        }
        if trunk is not None:
            overlaps = [imputed_dice(trunk, example, target, makers) for example in test]
            found["dice"] = _figures({name: np.array([one[name] for one in overlaps]) for name in overlaps[0]})
    return found


def imputed_dice(trunk: SliceUNet, example: WhereExample, target: str, makers: Mapping[str, Maker]) -> dict[str, float]:
    """Return the mask's overlap with the readers' by what stands for the sequence: it, nothing, or one made."""
    index = ROLES.index(target)
    shown = slices_with_head(example).numpy()
    given = slices_of(example, target).given

    def overlap(array: np.ndarray, is_present: bool) -> float:
        present = example.present.copy()
        present[index] = is_present
        seen = replace(example, array=array, present=present)
        return float(dice(region_probabilities(trunk, seen) > 0.5, example.regions))

    def standing_in(slices: np.ndarray | float) -> np.ndarray:
        array = example.array.copy()
        array[index] = 0
        array[index, shown] = slices
        return array

    return {
        GAN: overlap(standing_in(makers[GAN](given)[:, 0].numpy()), is_present=True),
        MIXTURE: overlap(standing_in(makers[MIXTURE](given)[:, 0].numpy()), is_present=True),
        NONE: overlap(standing_in(0.0), is_present=False),
        TRUE: overlap(example.array, is_present=True),
    }


def slices_of(example: WhereExample, target: str) -> Slices:
    """Return a patient's slices that show the head in every sequence."""
    array = torch.from_numpy(example.array.astype(np.float32)).transpose(0, 1)  # (D, C, H, W)
    index = ROLES.index(target)
    others = [row for row in range(len(ROLES)) if row != index]
    shown = slices_with_head(example)
    return Slices(array[shown][:, others], array[shown][:, index : index + 1])


def slices_with_head(example: WhereExample) -> Tensor:
    """Return (D,): whether every sequence shows the head; at a volume's ends one may be blank where others are not."""
    bright = torch.from_numpy(example.array > 0).float().mean(dim=(2, 3))  # (C, D)
    return bright.amin(dim=0) > MIN_HEAD


def _read(patient: Patient, target: str) -> Slices:
    return slices_of(read_example(patient), target)


def _likeness(slices: Slices, makers: Mapping[str, Maker]) -> dict[str, dict[str, float]]:
    images = {name: make(slices.given) for name, make in makers.items()}
    return {
        "psnr_db": {name: float(psnr(made, slices.truth).mean()) for name, made in images.items()},
        "ssim": {name: float(ssim(made, slices.truth).mean()) for name, made in images.items()},
    }


def train_synthesis(patients: Sequence[Slices], settings: SynthesisSettings) -> SequenceSynthesis:
    """Return the networks after so many steps on random slices, mirrored at random; the rate falls to 0 linearly."""
    torch.manual_seed(mixed_seed(settings.seed))
    generator = torch.Generator().manual_seed(mixed_seed(settings.seed))
    given, truth = (torch.cat([getattr(one, name) for one in patients]) for name in ("given", "truth"))
    synthesis = SequenceSynthesis(given.shape[1], widths=settings.widths)
    optimisers = Optimisers.of(synthesis, settings.learning_rate)
    for step in range(settings.steps):
        for optimiser in (optimisers.generator, optimisers.discriminator):
            optimiser.param_groups[0]["lr"] = settings.learning_rate * (1 - step / settings.steps)
        rows = torch.randint(len(given), (settings.batch_size,), generator=generator)
        batch = (given[rows], truth[rows])
        if torch.rand((), generator=generator) < 0.5:
            batch = (batch[0].flip(-1), batch[1].flip(-1))
        losses = synthesis.step(*batch, optimisers)
        if step % 100 == 0:
            logger.info("step %d: L1 %.3f", step, losses.l1)
    return synthesis.eval()


def to_markdown(found: Mapping[str, object]) -> str:
    """One target's table for people."""
    lines = [
        f"{found['target']} made from the other two: {found['n_train']} patients teach, {found['n_test']} are tested",
        "",
        "| made by | PSNR in dB | the GAN's gain | SSIM | the GAN's gain |",
        "| --- | --- | --- | --- | --- |",
    ]
    tables: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = found  # type: ignore[assignment]
    for name, figures in tables["psnr_db"].items():
        lines.append(f"| {name} | {_shown(figures, 2)} | {_shown(tables['ssim'][name], 3)} |")
    if "dice" in found:
        lines += ["", "| mask drawn from | Dice | what is made by the GAN gains |", "| --- | --- | --- |"]
        lines += [f"| {name} | {_shown(figures, 3)} |" for name, figures in tables["dice"].items()]
    return "\n".join(lines) + "\n"


def write_synthesis(found: Sequence[Mapping[str, object]], out: Path) -> None:
    """Write the figures as JSON."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "synthesis.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _rivals(teach: Sequence[Slices], target: str) -> dict[str, "_Linear"]:
    """All of them are linear in what is given: weights of the two sequences, and an offset."""
    given, truth = (torch.cat([getattr(one, name) for one in teach]) for name in ("given", "truth"))
    first, second = (role for role in ROLES if role != target)
    columns = torch.stack([*given.unbind(1), torch.ones_like(truth[:, 0])], dim=-1).reshape(-1, 3).double()
    fitted = torch.linalg.lstsq(columns, truth.reshape(-1, 1).double()).solution[:, 0].float()
    return {
        f"copy of {first}": _Linear(torch.tensor([1.0, 0.0, 0.0])),
        f"copy of {second}": _Linear(torch.tensor([0.0, 1.0, 0.0])),
        "mean of both": _Linear(torch.tensor([0.5, 0.5, 0.0])),
        "one grey value": _Linear(torch.tensor([0.0, 0.0, float(truth.mean())])),
        MIXTURE: _Linear(fitted),
    }


@dataclass(frozen=True, slots=True)
class _Linear:
    """Weights (3,) of two sequences and 1."""

    weights: Tensor

    def __call__(self, given: Tensor) -> Tensor:
        return self.weights[0] * given[:, :1] + self.weights[1] * given[:, 1:] + self.weights[2]


def _figures(by_name: Mapping[str, np.ndarray]) -> dict[str, dict[str, object]]:
    def mean(values: np.ndarray) -> float:
        return float(values.mean())

    def mean_of(_: np.ndarray, values: np.ndarray) -> float:
        return float(values.mean())

    figures: dict[str, dict[str, object]] = {}
    for name, values in by_name.items():
        figures[name] = {"mean": bootstrap(mean, values).to_dict()}
        if name != GAN:
            figures[name]["gain"] = paired_difference(mean_of, values, by_name[GAN], values).to_dict()
    return figures


def _shown(figures: Mapping[str, Mapping[str, float]], digits: int) -> str:
    def text(part: Mapping[str, float], sign: str) -> str:
        return f"{part['value']:{sign}.{digits}f} ({part['low']:{sign}.{digits}f} to {part['high']:{sign}.{digits}f})"

    return f"{text(figures['mean'], '')} | {text(figures['gain'], '+') if 'gain' in figures else ''}"
