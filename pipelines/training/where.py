"""Step one of training: the trunk learns where. Slices are sampled per case, half of them through a region."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from monai.losses import DiceCELoss
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medmm.encoders.slice_unet import SliceUNet, look
from pipelines.training.augment import Augmentation, augment_stacks
from pipelines.training.trainer import fit_quietly

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereExample:
    """A prepared case with known regions: `array` (C, D, H, W), `present` (C,), `regions` (R, D, H, W) of 0 and 1."""

    case: str
    array: np.ndarray
    present: np.ndarray
    regions: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereSettings:
    """How the trunk is trained. The learning rate follows one cycle over all steps."""

    widths: tuple[int, int, int, int, int, int] = (16, 24, 48, 96, 128, 16)
    epochs: int = 26
    slices_per_case: int = 12
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0


class SliceSampler(Dataset[dict[str, Tensor]]):
    """One epoch of slice stacks: `slices_per_case` from each case, half of them through a region where there is one."""

    def __init__(self, examples: Sequence[WhereExample], slices_per_case: int, seed: int) -> None:
        self.examples = examples
        self.slices_per_case = slices_per_case
        self.rng = np.random.default_rng(seed)
        self.marked = [np.flatnonzero(example.regions.any(axis=(0, 2, 3))) for example in examples]

    def __len__(self) -> int:
        return len(self.examples) * self.slices_per_case

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        case, draw = divmod(index, self.slices_per_case)
        example, marked = self.examples[case], self.marked[case]
        depth = example.array.shape[1]
        through_region = draw % 2 == 0 and marked.size > 0
        z = int(self.rng.choice(marked)) if through_region else int(self.rng.integers(depth))
        neighbours = np.clip([z - 1, z, z + 1], 0, depth - 1)
        return {
            "stack": torch.from_numpy(example.array[:, neighbours].astype(np.float32)).transpose(0, 1),
            "regions": torch.from_numpy(example.regions[:, z].astype(np.float32)),
            "present": torch.from_numpy(example.present),
        }


class WhereTraining(lightning.LightningModule):
    """Dice + cross-entropy over slices (Dice over the batch, so that slices without a region count)."""

    def __init__(self, trunk: SliceUNet, settings: WhereSettings, total_steps: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.settings = settings
        self.total_steps = total_steps
        self.loss = DiceCELoss(sigmoid=True, batch=True)
        self.generator = torch.Generator().manual_seed(settings.seed)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        stacks, regions, present = augment_stacks(
            batch["stack"], batch["regions"], batch["present"], self.settings.augmentation, self.generator
        )
        flags = present.to(stacks.dtype)[:, :, None, None].expand(-1, -1, *stacks.shape[-2:])
        logits = self.trunk.slices(torch.cat([stacks.flatten(1, 2), flags], dim=1))[0]
        loss: Tensor = self.loss(logits.float(), regions)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.settings
        optimiser = torch.optim.AdamW(self.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, settings.learning_rate, total_steps=self.total_steps, pct_start=0.15
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train_where(
    examples: Sequence[WhereExample], settings: WhereSettings, *, progress: bool = False, precision: str = "bf16-mixed"
) -> SliceUNet:
    """Return a trunk trained to delineate the examples' regions, on whatever device Lightning finds."""
    lightning.seed_everything(settings.seed, verbose=False)
    n_sequences, n_regions = examples[0].array.shape[0], examples[0].regions.shape[0]
    trunk = SliceUNet(n_sequences, n_regions, settings.widths)
    slices = SliceSampler(examples, settings.slices_per_case, settings.seed)
    loader = DataLoader(
        slices,
        batch_size=min(settings.batch_size, len(slices)),
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    module = WhereTraining(trunk, settings, total_steps=len(loader) * settings.epochs)
    fit_quietly(module, loader, epochs=settings.epochs, precision=precision, progress=progress)
    return trunk.eval()


@torch.inference_mode()
def region_probabilities(trunk: SliceUNet, example: WhereExample) -> np.ndarray:
    """Return the probability (R, D, H, W) of each region, as a diagnosis sees it (`medmm.encoders.slice_unet.look`)."""
    seen = look(
        trunk, torch.from_numpy(example.array.astype(np.float32))[None], torch.from_numpy(example.present)[None]
    )
    return seen.region_logits[0].sigmoid().numpy()


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Overlap 2|A∩B| / (|A|+|B|) of two masks; 1 where both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 1.0 if total == 0 else float(2 * np.logical_and(predicted, truth).sum() / total)
