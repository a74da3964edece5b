"""How Lightning is run here, and nowhere else: quietly, watched on validation only, resumable to the last bit.

Everything random in a step depends on (seed, epoch, step) alone: `SeedSteps` for what happens in the network,
`EpochSampler` for the order of the data. So training that was killed goes on from its last whole epoch and ends with
the weights of training that was not.
"""

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from medmm.device import is_bfloat16_fast
from medmm.errors import UsageError

VALIDATION_LOSS = "validation_loss"
LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow", "none"]
# `auto`: bfloat16 where the hardware multiplies it, else float32.
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
_CHECKPOINT = "last-epoch.ckpt"
_NO_NEWS = (
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning on a torch newer than it knows
    ".*does not have many workers.*",  # the data is in memory
    ".*number of training batches.*",  # logging intervals
    ".*but have no `val_dataloader`.*",  # a fit without validation is asked for
    ".*It is recommended to use `self.log\\(.*sync_dist=True.*",  # every process validates on all cases
    ".*Experiment logs directory .* exists.*",  # a resumed run goes on in its own folder
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How one fit is watched and kept.

    `validation` decides when to stop: after `patience` epochs without a lower loss the weights of the best epoch are
    taken; 0 never stops early, and the last epoch's weights are taken. `checkpoints` is a folder of this fit's own; a
    fit that finds its last epoch there goes on from it. `logs` is a folder for the logger.
    """

    validation: DataLoader[Any] | None = None
    patience: int = 0
    checkpoints: Path | None = None
    logger: LoggerName = "none"
    logs: Path | None = None
    name: str = "fit"
    seed: int = 0
    progress: bool = False


def fit_quietly(
    module: lightning.LightningModule,
    loader: DataLoader[Any],
    *,
    epochs: int,
    accelerator: str = "auto",
    precision: Precision = "32-true",
    watch: Watch | None = None,
    is_shared: bool = False,
) -> int:
    """Train a module in place and return the number of epochs whose weights it has.

    Lightning's advertisements and device lists are not shown. Under `torchrun` the processes share the batches of a fit
    that `is_shared` (DDP), and each does the whole of any other.
    """
    watch = watch or Watch()
    best = KeepBest(watch.patience) if watch.validation is not None and watch.patience else None
    keeps = watch.checkpoints is not None and (is_shared or is_main_process())
    checkpoint = EpochCheckpoint(watch.checkpoints) if keeps and watch.checkpoints is not None else None
    world, local = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    shared = is_shared and world > 1
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator=accelerator,
            precision=resolve_precision(precision, accelerator),
            devices=local if shared else 1,
            num_nodes=world // local if shared else 1,
            logger=(build_logger(watch) or False) if is_main_process() else False,
            callbacks=[SeedSteps(watch.seed), *filter(None, (best, checkpoint))],
            enable_checkpointing=checkpoint is not None,
            enable_model_summary=False,
            enable_progress_bar=watch.progress,
            log_every_n_steps=10,
            gradient_clip_val=1.0,
            num_sanity_val_steps=0,
        )
        found = checkpoint.found if checkpoint is not None else None
        trainer.fit(module, loader, watch.validation, ckpt_path=found, weights_only=None if found is None else True)
    return best.restore(module) if best is not None else epochs


def resolve_precision(precision: Precision, accelerator: str) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Return what Lightning is told: `auto` becomes bfloat16 only where this machine is fast at it.

    Raises:
        UsageError: `device.none` for float16 without a GPU: processors do not train in it.
    """
    if precision == "16-mixed" and (accelerator == "cpu" or not torch.cuda.is_available()):
        raise UsageError(
            "The precision 16-mixed needs a GPU (none was found).", code="device.none", remedy='Use "auto".'
        )
    if precision != "auto":
        return precision
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if is_bfloat16_fast(torch.device("cuda" if on_gpu else "cpu")) else "32-true"


def process_rank() -> str:
    """The number of this process among those of `torchrun`."""
    return os.environ.get("RANK", "0")


def is_main_process() -> bool:
    """Whether this process is the one that writes files."""
    return process_rank() == "0"


def build_logger(watch: Watch) -> Logger | None:
    """Return the logger by name.

    Raises:
        UsageError: `config.key` where its package is not installed.
    """
    if watch.logger == "none" or watch.logs is None:
        return None
    folder = str(watch.logs)
    builders = {
        "tensorboard": lambda: TensorBoardLogger(folder, name=watch.name, version="", default_hp_metric=False),
        "csv": lambda: CSVLogger(folder, name=watch.name, version=""),
        "wandb": lambda: WandbLogger(save_dir=folder, name=watch.name, offline=True),
        "mlflow": lambda: MLFlowLogger(experiment_name="medmm", run_name=watch.name, tracking_uri=f"file:{folder}"),
    }
    try:
        return builders[watch.logger]()  # type: ignore[no-any-return]  # loggers all
    except ModuleNotFoundError:
        raise UsageError(
            f"The logger {watch.logger!r} needs a package that is not installed.",
            code="config.key",
            remedy=f"Install it (pip install 'medmm[{watch.logger}]'), or choose logger = \"csv\".",
        ) from None


def mixed_seed(*parts: int) -> int:
    """Return a seed that depends on every part, and on their order."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


class EpochSampler(Sampler[int]):
    """Every row once an epoch, in an order that depends on (seed, epoch) alone.

    Yields `epoch * len(rows) + row`, so that a data set can draw at random from (seed, epoch, row) alone, too.
    """

    def __init__(self, rows: Sized, module: lightning.LightningModule, seed: int) -> None:
        self.n_rows = len(rows)
        self.module = module
        self.seed = seed

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[int]:
        epoch = self.module.current_epoch
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        order = torch.randperm(self.n_rows, generator=generator).tolist()
        return iter([epoch * self.n_rows + row for row in order])


class SeedSteps(Callback):
    """Seeds dropout and augmentation anew before every step, from (seed, epoch, step, process)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: object, batch_idx: int
    ) -> None:
        seed = mixed_seed(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(seed)
        generator = getattr(pl_module, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)


class KeepBest(Callback):
    """Keeps the weights of the epoch with the lowest validation loss, and stops when `patience` epochs brought none."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.lowest = float("inf")
        self.best_epoch = -1
        self.weights: dict[str, Tensor] = {}

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        loss = float(trainer.callback_metrics[VALIDATION_LOSS])
        if loss < self.lowest:
            self.lowest, self.best_epoch = loss, trainer.current_epoch
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        if trainer.current_epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True

    def restore(self, module: lightning.LightningModule) -> int:
        """Put the best weights back and return how many epochs they took."""
        if self.weights:
            module.load_state_dict(self.weights)
        return self.best_epoch + 1

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]  # read only
        self.lowest, self.best_epoch = state_dict["lowest"], state_dict["best_epoch"]
        self.weights = dict(state_dict["weights"])


class EpochCheckpoint(Checkpoint):
    """Keeps the state after every epoch in one file, replaced by a rename, so that a kill never leaves half of one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _CHECKPOINT

    @property
    def found(self) -> Path | None:
        """The state that an earlier run left, if any."""
        return self.path if self.path.is_file() else None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(torn)
        if trainer.is_global_zero:
            torn.replace(self.path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    news = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in news]
    for logger in news:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _NO_NEWS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(news, before, strict=True):
            logger.setLevel(level)
