"""A fitted model on disk: `config.json` (what it is) and `model.safetensors` (its numbers). No pickle."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from medmm.errors import UsageError
from pipelines.recipes.radiology_cases.cases import Diagnosis
from pipelines.recipes.radiology_cases.experts import Experts
from pipelines.recipes.radiology_cases.lexicon import Lexicon, Linear
from pipelines.recipes.radiology_cases.model import RadiologyModel
from pipelines.recipes.radiology_cases.pairing import Pairing

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_FORMAT = 1
_SEPARATOR = "/"
_LINEAR = ("pictures", "words", "meaning", "record", "attributes")  # fields that are classifiers by task
_SINGLE = {"lexicon": Lexicon, "pairing": Pairing}


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
    arrays = {name: np.ascontiguousarray(value) for name, value in _arrays(model.experts)}
    save_file({**arrays, "names": np.ascontiguousarray(model.names)}, folder / WEIGHTS)


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
            experts=_experts(arrays),
            weights=config["weights"],
            diagnoses=tuple(Diagnosis(key=one["key"], names=tuple(one["names"])) for one in config["diagnoses"]),
            names=arrays["names"],
        )
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            "Expected a model as `train` writes it (its files are damaged).", code="model.corrupt"
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


def _arrays(experts: Experts) -> Iterator[tuple[str, np.ndarray]]:
    for field in fields(experts):
        value = getattr(experts, field.name)
        if isinstance(value, np.ndarray):
            yield field.name, value
        elif field.name in _SINGLE:
            yield from ((f"{field.name}{_SEPARATOR}{name}", array) for name, array in asdict(value).items())
        else:
            for task, held in value.items():
                parts = {"": held} if isinstance(held, np.ndarray) else asdict(held)
                yield from (
                    (_SEPARATOR.join(filter(None, (field.name, task, name))), one) for name, one in parts.items()
                )


def _experts(arrays: Mapping[str, np.ndarray]) -> Experts:
    def under(prefix: str) -> dict[str, np.ndarray]:
        start = prefix + _SEPARATOR
        return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}

    values: dict[str, object] = {}
    for field in fields(Experts):
        if field.name in arrays:
            values[field.name] = arrays[field.name]
        elif field.name in _SINGLE:
            values[field.name] = _SINGLE[field.name](**under(field.name))
        elif field.name in _LINEAR:
            tasks = sorted({name.partition(_SEPARATOR)[0] for name in under(field.name)})
            values[field.name] = {task: Linear(**under(f"{field.name}{_SEPARATOR}{task}")) for task in tasks}
        else:
            values[field.name] = under(field.name)
    return Experts(**values)  # type: ignore[arg-type]  # the fields are those of Experts, by name
