"""Step one of training: the trunk learns where. Slices are sampled per case, half of them through a region."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import lightning
import numpy as np
import pydantic.dataclasses
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from monai.losses import DiceCELoss
from pydantic import ConfigDict, Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medmm.encoders.lite_slice_unet import LiteSliceUNet
from medmm.encoders.slice_unet import SliceUNet, TrunkWidths, look
from medmm.encoders.trunks import TrunkName, build_trunk
from pipelines.training.augment import Augmentation, augment_stacks
from pipelines.training.objectives import Adversarial, loss_of_hurt_pixels
from pipelines.training.trainer import (
    VALIDATION_LOSS,
    EpochSampler,
    Precision,
    Watch,
    fit_quietly,
    mixed_seed,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereExample:
    """A prepared case with known regions: `array` (C, D, H, W), `present` (C,), `regions` (R, D, H, W) of 0 and 1."""

    case: str
    array: np.ndarray
    present: np.ndarray
    regions: np.ndarray


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class WhereSettings:
    """How the trunk is trained. The learning rate follows one cycle over all steps.

    `trunk`: "lite" starts from ImageNet (extra `pictures`), "basic" has `widths`.
    `patience`: epochs without a lower loss on the validation cases after which training stops; 0 never stops early.
    """

    trunk: TrunkName = "basic"
    widths: TrunkWidths = (16, 24, 48, 96, 128, 16)
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 26
    slices_per_case: Annotated[int, Field(ge=1)] = 12
    batch_size: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    patience: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: Annotated[int, Field(ge=0)] = 0


class SliceSampler(Dataset[dict[str, Tensor]]):
    """Slice stacks: `slices_per_case` from each case an epoch, half of them through a region where there is one.

    Keys are those of `EpochSampler`; which slice a key means depends on it and the seed alone.
    """

    def __init__(self, examples: Sequence[WhereExample], slices_per_case: int, seed: int) -> None:
        self.examples = examples
        self.slices_per_case = slices_per_case
        self.seed = seed
        self.marked = [np.flatnonzero(example.regions.any(axis=(0, 2, 3))) for example in examples]

    def __len__(self) -> int:
        return len(self.examples) * self.slices_per_case

    def __getitem__(self, key: int) -> dict[str, Tensor]:
        case, draw = divmod(key % len(self), self.slices_per_case)
        rng = np.random.default_rng(mixed_seed(self.seed, key))
        example, marked = self.examples[case], self.marked[case]
        depth = example.array.shape[1]
        through_region = draw % 2 == 0 and marked.size > 0
        z = int(rng.choice(marked)) if through_region else int(rng.integers(depth))
        neighbours = np.clip([z - 1, z, z + 1], 0, depth - 1)
        return {
            "stack": torch.from_numpy(example.array[:, neighbours].astype(np.float32)).transpose(0, 1),
            "regions": torch.from_numpy(example.regions[:, z].astype(np.float32)),
            "present": torch.from_numpy(example.present),
        }


class WhereTraining(lightning.LightningModule):
    """Dice + cross-entropy over slices (Dice over the batch, so that slices without a region count)."""

    def __init__(self, trunk: SliceUNet, settings: WhereSettings, adversarial: Adversarial | None = None) -> None:
        super().__init__()
        self.adversarial = adversarial
        self.trunk = trunk
        self.settings = settings
        self.loss = DiceCELoss(sigmoid=True, batch=True)
        self.generator = torch.Generator().manual_seed(settings.seed)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        stacks, regions, present = augment_stacks(
            batch["stack"], batch["regions"], batch["present"], self.settings.augmentation, self.generator
        )
        loss = self._loss(stacks, regions, present)
        hurt = loss_of_hurt_pixels(self.adversarial, stacks, lambda changed: self._loss(changed, regions, present))
        loss = loss if hurt is None else loss + hurt
        self.log("training_loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        stacks = batch["stack"] * batch["present"][:, None, :, None, None]
        loss = self._loss(stacks, batch["regions"], batch["present"])
        self.log(VALIDATION_LOSS, loss, batch_size=len(stacks), prog_bar=True)

    def _loss(self, stacks: Tensor, regions: Tensor, present: Tensor) -> Tensor:
        flags = present.to(stacks.dtype)[:, :, None, None].expand(-1, -1, *stacks.shape[-2:])
        logits = self.trunk(torch.cat([stacks.flatten(1, 2), flags], dim=1))[0]
        loss: Tensor = self.loss(logits.float(), regions)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.settings
        optimiser = torch.optim.AdamW(self.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, settings.learning_rate, total_steps=int(self.trainer.estimated_stepping_batches), pct_start=0.15
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass(frozen=True, slots=True)
class TrainedTrunk:
    """A trunk, and how many epochs its weights took."""

    trunk: SliceUNet
    epochs: int


def train_where(
    examples: Sequence[WhereExample],
    settings: WhereSettings,
    *,
    validation: Sequence[WhereExample] = (),
    watch: Watch | None = None,
    adversarial: Adversarial | None = None,
) -> TrainedTrunk:
    """Return a trunk trained to delineate the examples' regions, on whatever device Lightning finds.

    Args:
        examples: What is learned from.
        settings: How.
        validation: Cases that only decide when to stop, where `settings.patience` is set.
        watch: Where checkpoints and logs go, and whether a bar is drawn; its validation and seed are those given here.
        adversarial: Learn from slices changed so that it hurts, too.
    """
    lightning.seed_everything(settings.seed, verbose=False)
    n_sequences, n_regions = examples[0].array.shape[0], examples[0].regions.shape[0]
    trunk = build_trunk(settings.trunk, n_sequences, n_regions, settings.widths)
    if isinstance(trunk, LiteSliceUNet):
        trunk.load_pretrained()
    slices = SliceSampler(examples, settings.slices_per_case, settings.seed)
    batch_size = min(settings.batch_size, len(slices))
    module = WhereTraining(trunk, settings, adversarial)
    loader = DataLoader(
        slices, batch_size=batch_size, drop_last=True, sampler=EpochSampler(slices, module, settings.seed)
    )
    held_out = SliceSampler(validation, settings.slices_per_case, settings.seed)
    watch = replace(
        watch or Watch(),
        seed=settings.seed,
        patience=settings.patience,
        validation=DataLoader(held_out, batch_size=settings.batch_size) if len(held_out) else None,
    )
    epochs = fit_quietly(
        module, loader, epochs=settings.epochs, precision=settings.precision, watch=watch, is_shared=True
    )
    return TrainedTrunk(trunk.eval(), epochs)


@torch.inference_mode()
def region_probabilities(trunk: SliceUNet, example: WhereExample) -> np.ndarray:
    """Return the probability (R, D, H, W) of each region, as a diagnosis sees it (`medmm.encoders.slice_unet.look`)."""
    seen = look(
        trunk, torch.from_numpy(example.array.astype(np.float32))[None], torch.from_numpy(example.present)[None]
    )
    return seen.region_logits[0].sigmoid().numpy()
