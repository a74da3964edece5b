"""A fitted model on disk: `config.json` (what it is) and `model.safetensors` (its numbers). No pickle."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from medmm.errors import UsageError
from pipelines.recipes.radiology_cases.cases import Diagnosis
from pipelines.recipes.radiology_cases.experts import Experts
from pipelines.recipes.radiology_cases.matching import Matching
from pipelines.recipes.radiology_cases.model import RadiologyModel
from pipelines.recipes.radiology_cases.pairing import Pairing
from pipelines.training.lexicon import Lexicon
from pipelines.training.linear import Linear

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_FORMAT = 1
_SEPARATOR = "/"
_LINEAR = (
    "pictures",
    "words",
    "meaning",
    "record",
    "attributes",
)  # fields that are classifiers by task
_SINGLE: Mapping[str, type] = {"lexicon": Lexicon, "pairing": Pairing}
_Kind = TypeVar("_Kind")


def save(folder: Path, model: RadiologyModel, graph_hash: str) -> None:
    """Write a model; an existing one is overwritten.

    Args:
        folder: Where to; made if need be.
        model: What to write.
        graph_hash: Of the knowledge graph that it was fitted with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": _FORMAT,
        "graph": graph_hash,
        "weights": model.weights,
        "diagnoses": [{"key": one.key, "names": one.names} for one in model.diagnoses],
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    arrays = {
        "names": model.names,
        **dict(_arrays("experts", model.experts)),
        **dict(_arrays("matching", model.matching)),
    }
    save_file(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()},
        folder / WEIGHTS,
    )


def load(folder: Path, graph_hash: str, diagnoses: Sequence[Diagnosis]) -> RadiologyModel:
    """Return the model of a folder.

    Args:
        folder: As `save` wrote it.
        graph_hash: Of the knowledge graph at hand.
        diagnoses: The candidates that are to be ranked.
    Raises:
        UsageError: `model.incomplete` where a file is missing, `model.corrupt` where one cannot be read, `kg.version`
            where it was fitted with another knowledge graph, `model.mismatch` where it ranks other candidates.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"Expected {name} in the model folder (found none).",
                code="model.incomplete",
                remedy="`python -m pipelines.recipes.radiology_cases train` makes one.",
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        arrays = load_file(folder / WEIGHTS)
        if config["format"] != _FORMAT:
            raise UsageError(f"Expected a model of format {_FORMAT}.", code="model.incomplete")
        model = RadiologyModel(
            experts=_built(Experts, _under(arrays, "experts")),
            matching=_built(Matching, _under(arrays, "matching")),
            weights=config["weights"],
            diagnoses=tuple(Diagnosis(key=one["key"], names=tuple(one["names"])) for one in config["diagnoses"]),
            names=arrays["names"],
        )
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            "Expected a model as `train` writes it (its files are damaged).",
            code="model.corrupt",
        ) from error
    if config["graph"] != graph_hash:
        raise UsageError(
            "Expected the knowledge graph that the model was fitted with (this one differs).",
            code="kg.version",
            remedy="Train again, or install the versions of the graph's sources that constraints.txt names.",
        )
    if model.diagnoses != tuple(diagnoses):
        raise UsageError(
            "Expected the candidates that the model was fitted with (candidates.csv differs).",
            code="model.mismatch",
            remedy="Train again with these candidates.",
        )
    return model


def _arrays(name: str, item: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of nested dataclasses and mappings, named by the way to it."""
    if isinstance(item, np.ndarray):
        yield name, item
        return
    parts = item if isinstance(item, Mapping) else {field.name: getattr(item, field.name) for field in fields(item)}
    for key, part in parts.items():
        yield from _arrays(f"{name}{_SEPARATOR}{key}", part)


def _built(kind: type[_Kind], arrays: Mapping[str, np.ndarray]) -> _Kind:
    """The dataclass whose arrays `_arrays` named; KeyError where one is missing."""
    values: dict[str, object] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # every kind here is a dataclass
        own = _under(arrays, field.name)
        if field.name in _SINGLE:
            values[field.name] = _built(_SINGLE[field.name], own)
        elif field.name in _LINEAR:
            tasks = sorted({name.partition(_SEPARATOR)[0] for name in own})
            values[field.name] = {task: _built(Linear, _under(own, task)) for task in tasks}
        else:
            values[field.name] = own or arrays[field.name]
    return kind(**values)


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    start = prefix + _SEPARATOR
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
