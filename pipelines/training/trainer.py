"""How Lightning is run here: quietly, and nowhere else configured."""

import logging
import warnings
from typing import Any

import lightning
from torch.utils.data import DataLoader

_NO_NEWS = (
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning on a torch newer than it knows
    ".*does not have many workers.*",  # the data is in memory
    ".*number of training batches.*",  # logging intervals, and nothing is logged
)


def fit_quietly(
    module: lightning.LightningModule,
    loader: DataLoader[Any],
    *,
    epochs: int,
    accelerator: str = "auto",
    precision: str = "32-true",
    progress: bool = False,
) -> None:
    """Train a module in place for some epochs. Lightning's advertisements and device lists are not shown."""
    news = logging.getLogger("lightning.pytorch")
    before = news.level
    news.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _NO_NEWS:
                warnings.filterwarnings("ignore", message=message)
            trainer = lightning.Trainer(
                max_epochs=epochs,
                accelerator=accelerator,
                precision=precision,  # type: ignore[arg-type]  # Lightning types it as a closed set of literals
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=progress,
                gradient_clip_val=1.0,
            )
            trainer.fit(module, loader)
    finally:
        news.setLevel(before)
