"""Which device a model runs on; decided here and nowhere else."""

import logging
from typing import Literal

import torch

from medmm.errors import UsageError

# What the large networks (trunk, image network, text encoder) compute in; everything behind them is float32.
Precision = Literal["float32", "bfloat16"]
GPU_BATCH_MIB = 2048.0  # of one pass that several cases share: a small part of any GPU that inference runs on
logger = logging.getLogger(__name__)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`. `auto` takes the GPU where there is one.

    Raises:
        UsageError: `device.none` where a GPU is asked for and there is none.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("Running on %s.", found)
        return torch.device(found)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"Expected a device auto, cpu, cuda or cuda:N (got {name!r}).", code="device.none") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(
                f"Expected a CUDA device {name} (PyTorch finds {count}).",
                code="device.none",
                remedy="Use --device cpu, or install a PyTorch build for this GPU's driver.",
            )
    elif device.type != "cpu":
        raise UsageError(f"Expected a device auto, cpu, cuda or cuda:N (got {name!r}).", code="device.none")
    return device


def list_gpus() -> tuple[str, ...]:
    """Return the names of all GPUs.

    Raises:
        UsageError: `device.none` where there is none.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError(
            "Expected CUDA devices (PyTorch finds none).",
            code="device.none",
            remedy="Use --device cpu, or install a PyTorch build for this machine's GPUs and their driver.",
        )
    return tuple(f"cuda:{number}" for number in range(count))


def choose_batch_mib(device: torch.device) -> float:
    """Return the memory, in MiB, of one pass that several cases share; 0 on a CPU, which one case keeps busy."""
    return 0.0 if device.type == "cpu" else GPU_BATCH_MIB


def is_bfloat16_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware. Elsewhere it is some ten times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
