"""Weights from elsewhere into our networks: MONAI bundles, MedicalNet checkpoints, Hugging Face directories.

Only numbers and plain JSON are read. A bundle's own configuration can hold expressions that MONAI evaluates, so it is
never opened; its network is named by the caller instead. Pickled checkpoints are read with torch's `weights_only`,
which refuses everything but tensors.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medmm.encoders.image_networks import ImageNetwork
from medmm.errors import UsageError

METADATA = Path("configs", "metadata.json")
_BUNDLE_WEIGHTS = (Path("models", "model.safetensors"), Path("models", "model.pt"))
# What others put before the names of a network's tensors.
_PREFIXES = ("module.", "model.", "network.", "encoder.", "backbone.", "net.", "image_encoder.", "features.")
_KNOWN_METADATA = ("name", "version", "task", "description", "intended_use", "authors", "copyright", "data_source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came in: how many tensors of the network, what was left over, and what the source says of itself."""

    n_tensors: int
    left_over: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)


def import_medicalnet(path: Path, network: ImageNetwork) -> Imported:
    """Load a MedicalNet checkpoint (Chen, Ma, Zheng 2019), such as `resnet_18_23dataset.pth`, into a 3D ResNet.

    Raises:
        UsageError: `model.corrupt` for an unreadable file, `model.unsafe` for one that holds more than tensors,
            `model.mismatch` where a tensor of the network is missing or has another shape.
    """
    return _fill(network, read_tensors(path), {})


def import_monai_bundle(folder: Path, network: ImageNetwork) -> Imported:
    """Load the weights of a MONAI bundle and return what its metadata says; no other file of it is read.

    Raises:
        UsageError: `model.incomplete` without weights or metadata; else as `import_medicalnet`.
    """
    weights = next((folder / place for place in _BUNDLE_WEIGHTS if (folder / place).is_file()), None)
    if weights is None or not (folder / METADATA).is_file():
        raise UsageError(
            "Expected a MONAI bundle with configs/metadata.json and models/model.pt (one of them is missing).",
            code="model.incomplete",
        )
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError("Expected JSON in the bundle's metadata.", code="model.corrupt") from error
    about = {key: str(metadata[key]) for key in _KNOWN_METADATA if key in metadata}
    return _fill(network, read_tensors(weights), about)


def import_hugging_face(folder: Path, network: ImageNetwork) -> Imported:
    """Load `model.safetensors` of a Hugging Face directory whose tensors are named as the network's.

    Text encoders need no import: name their directory as the source of the text branch.

    Raises:
        UsageError: `model.incomplete` without safetensors; else as `import_medicalnet`.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UsageError("Expected model.safetensors in the directory (found none).", code="model.incomplete")
    config = folder / "config.json"
    about = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    kept = {key: str(about[key]) for key in ("model_type", "architectures", "_name_or_path") if key in about}
    return _fill(network, read_tensors(weights), kept)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a checkpoint that holds nothing but tensors.

    Raises:
        UsageError: `model.corrupt` for an unreadable file, `model.unsafe` for one that holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"Expected tensors only in {path.name} (it holds objects, which can execute code).",
            code="model.unsafe",
            remedy="Convert the weights to safetensors with a tool you trust.",
        ) from error
    except (OSError, RuntimeError, EOFError, SafetensorError) as error:
        raise UsageError(f"Expected weights in {path.name} (reading failed).", code="model.corrupt") from error
    for key in ("state_dict", "model", "network"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise UsageError(f"Expected named tensors in {path.name} (got {type(loaded).__name__}).", code="model.corrupt")
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _fill(network: ImageNetwork, found: Mapping[str, Tensor], about: Mapping[str, str]) -> Imported:
    body: nn.Module = network.body
    expected = {name: value for name, value in body.state_dict().items() if _is_used(name)}
    plain = {_without_prefix(name, expected): value for name, value in found.items()}
    missing = [name for name in expected if name not in plain and not name.endswith("num_batches_tracked")]
    if missing:
        raise UsageError(
            f"Expected every tensor of the network ({len(missing)} of {len(expected)} are missing, as {missing[0]}).",
            code="model.mismatch",
            remedy="Name the network, and 2D or 3D, that the weights were made for.",
        )
    fitting = {name: _in_one_channel(plain[name], value) for name, value in expected.items() if name in plain}
    for name, value in fitting.items():
        if value.shape != expected[name].shape:
            raise UsageError(
                f"Expected {name} as {tuple(expected[name].shape)} (got {tuple(value.shape)}).", code="model.mismatch"
            )
    body.load_state_dict(fitting, strict=False)
    left_over = tuple(sorted(plain.keys() - expected.keys()))
    return Imported(n_tensors=len(fitting), left_over=left_over, about=about)


def _is_used(name: str) -> bool:
    """EfficientNet keeps its classifier although the feature map comes before it."""
    return not name.startswith(("_fc.", "_conv_head.", "_bn1."))


def _without_prefix(name: str, expected: Mapping[str, Tensor]) -> str:
    while name not in expected:
        prefix = next((item for item in _PREFIXES if name.startswith(item)), None)
        if prefix is None:
            return name
        name = name[len(prefix) :]
    return name


def _in_one_channel(value: Tensor, expected: Tensor) -> Tensor:
    """A first layer for colours, summed: a grey picture shown to it in all three channels gives the same."""
    if value.ndim == expected.ndim > 2 and expected.shape[1] == 1 and value.shape[1] == 3:
        return value.sum(dim=1, keepdim=True)
    return value
