"""A model directory: written whole, read back only if every byte is what it was. No pickle on either way.

config.json   labels.json   model.safetensors   metrics.json   README.md (model card)   manifest.json (SHA-256 of each)
text/         an adapted text encoder, where the model has one of its own (`"source": "./text"`)
training_cases.safetensors (where the model shows similar training cases; see `medmm.similar`)
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medmm.config import Labels, ModelConfig
from medmm.errors import UsageError
from medmm.model import MultimodalModel
from medmm.similar import FILE as TRAINING_CASES
from medmm.similar import TrainingCases

CONFIG, LABELS, WEIGHTS, METRICS, CARD = "config.json", "labels.json", "model.safetensors", "metrics.json", "README.md"
MANIFEST = "manifest.json"
OWN_TEXT, OWN_TEXT_SOURCE = "text", "./text"
_PARTS = (CONFIG, LABELS, WEIGHTS, METRICS, CARD)
_EXECUTABLE = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".bin")
Spec = TypeVar("Spec", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """What a model directory holds."""

    model: MultimodalModel
    weights_sha256: str
    card: str
    metrics: Mapping[str, Any]
    training_cases: TrainingCases | None = None


class SavesItself(Protocol):
    """A text encoder: `medmm.encoders.text.TextEncoder` or `medmm.encoders.lstm_text.LstmTextEncoder`."""

    def save(self, folder: Path) -> None:
        """Write what loading it needs."""


def save_model(
    folder: Path,
    model: MultimodalModel,
    *,
    metrics: Mapping[str, Any],
    card: str,
    text_encoder: SavesItself | None = None,
    training_cases: TrainingCases | None = None,
) -> None:
    """Write a model directory; an existing one is overwritten file by file, the manifest last.

    `text_encoder` is written too where it was trained with the model; `config.json` then names it as the source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, TRAINING_CASES):
        (folder / name).unlink(missing_ok=True)
    config = model.config
    if text_encoder is not None and config.text is not None:
        text_encoder.save(folder / OWN_TEXT)
        own = config.text.model_copy(update={"source": OWN_TEXT_SOURCE})
        config = config.model_copy(update={"text": own})
    _write_text(folder / CONFIG, config.model_dump_json(indent=1, exclude_none=True))
    _write_text(folder / LABELS, model.labels.model_dump_json(indent=1))
    _write_text(folder / METRICS, json.dumps(metrics, indent=1, sort_keys=True))
    _write_text(folder / CARD, card)
    save_file({name: _compact(value) for name, value in model.state_dict().items()}, folder / WEIGHTS)
    if training_cases is not None:
        training_cases.save(folder)
    hashes = {name: file_sha256(folder / name) for name in _parts_of(folder)}
    _write_text(folder / MANIFEST, json.dumps(hashes, indent=1))


def load_checkpoint(folder: Path) -> LoadedModel:
    """Read a model directory.

    Raises:
        UsageError: `model.incomplete` for a missing piece, `model.unsafe` for pickled weights, `model.corrupt` where a
            hash, a shape or a value is wrong, `config.key` where a setting is unknown.
    """
    _check_complete(folder)
    _check_hashes(folder)
    config, labels = _read_spec(folder / CONFIG, ModelConfig), _read_spec(folder / LABELS, Labels)
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"Expected safetensors in {WEIGHTS} ({error}).", code="model.corrupt") from error
    model = MultimodalModel(config, labels)
    _check_weights(model.state_dict(), weights)
    model.load_state_dict(weights)
    return LoadedModel(
        model=model.eval(),
        weights_sha256=file_sha256(folder / WEIGHTS),
        card=(folder / CARD).read_text(encoding="utf-8"),
        metrics=json.loads((folder / METRICS).read_text(encoding="utf-8")),
        training_cases=TrainingCases.load(folder) if (folder / TRAINING_CASES).is_file() else None,
    )


def _compact(value: torch.Tensor) -> torch.Tensor:
    """The same numbers in half the space where float16 holds every one of them; loading makes them float32 again."""
    half = value.to(torch.float16)
    is_exact = value.dtype == torch.float32 and torch.equal(half.to(torch.float32), value)
    return (half if is_exact else value).contiguous()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parts_of(folder: Path) -> tuple[str, ...]:
    similar = (TRAINING_CASES,) if (folder / TRAINING_CASES).is_file() else ()
    return (*_PARTS, *similar, *_own_text_files(folder))


def _check_complete(folder: Path) -> None:
    missing = [name for name in (*_PARTS, MANIFEST) if not (folder / name).is_file()]
    if not missing:
        return
    candidates = folder.glob("*") if folder.is_dir() else [folder]
    unsafe = sorted(path.name for path in candidates if path.suffix in _EXECUTABLE and path.is_file())
    if unsafe and WEIGHTS in missing:
        raise UsageError(
            f"Expected {WEIGHTS} in the model directory (found {', '.join(unsafe)}, which can execute code).",
            code="model.unsafe",
            remedy="Convert the weights to safetensors with a tool you trust.",
        )
    raise UsageError(
        f"Expected a model directory with {', '.join((*_PARTS, MANIFEST))} (missing: {', '.join(missing)}).",
        code="model.incomplete",
        remedy="`medmm models list` names the shipped models.",
    )


def _check_hashes(folder: Path) -> None:
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"Expected JSON in {MANIFEST}.", code="model.corrupt") from error
    if not isinstance(hashes, dict):
        raise UsageError(f"Expected file names and hashes in {MANIFEST}.", code="model.corrupt")
    for name in _parts_of(folder):
        if hashes.get(name) != file_sha256(folder / name):
            raise UsageError(
                f"Expected {name} to have the SHA-256 that {MANIFEST} states (it differs).",
                code="model.corrupt",
                remedy="Get the model directory anew.",
            )


def _own_text_files(folder: Path) -> list[str]:
    """Files of the model's own text encoder, relative to the directory."""
    inside = (folder / OWN_TEXT).rglob("*")
    return sorted(path.relative_to(folder).as_posix() for path in inside if path.is_file())


def _check_weights(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    for name in sorted(expected.keys() ^ found.keys()):
        state = "missing from" if name in expected else "unknown in"
        raise UsageError(f"Expected the tensors of config.json ({name} is {state} {WEIGHTS}).", code="model.corrupt")
    for name, tensor in found.items():
        is_compact = tensor.dtype == torch.float16 and expected[name].dtype == torch.float32  # see `_compact`
        if tensor.shape != expected[name].shape or not (is_compact or tensor.dtype == expected[name].dtype):
            raise UsageError(
                f"Expected {name} as {tuple(expected[name].shape)} {expected[name].dtype} "
                f"(got {tuple(tensor.shape)} {tensor.dtype}).",
                code="model.corrupt",
            )
        if tensor.is_floating_point() and tensor.isnan().any():
            raise UsageError(f"Expected numbers in {name} (got NaN).", code="model.corrupt")


def _read_spec(path: Path, kind: type[Spec]) -> Spec:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        code = "config.key" if first["type"] == "extra_forbidden" else "model.mismatch"
        raise UsageError(f"Expected a valid {path.name} (at {where or 'top'}: {first['msg']}).", code=code) from error


def _write_text(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
