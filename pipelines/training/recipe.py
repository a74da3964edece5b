"""A training recipe: TOML in, checked settings out. What is wrong is named by line, key and nearest valid name."""

import difflib
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from medmm.config import Calibration, ClassSpec, GraphSpec, ImagesSpec, Labels, TaskSpec, TextSpec, VolumeSpec
from medmm.encoders.graph import GraphNetwork
from medmm.encoders.image_networks import IMAGE_NETWORKS
from medmm.encoders.text import MINILM
from medmm.errors import UsageError
from medmm.fusion.kinds import FUSIONS
from medmm.location import Laterality
from pipelines.training.images import ImageSettings
from pipelines.training.objectives import Objectives
from pipelines.training.trainer import LoggerName
from pipelines.training.what import WhatSettings
from pipelines.training.where import WhereSettings

LeakKind = Literal["patient", "volume", "image", "report", "label"]
MAX_BYTES = 1_000_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _class_of(value: object) -> object:
    """A class by its name alone is titled by it."""
    return {"name": value, "title": value} if isinstance(value, str) else value


def _class_between(low: float, high: float) -> ClassSpec:
    name = f"{low:g}-{high:g}" if high != float("inf") else f"{low:g}-"
    return ClassSpec(name=name, title=name)


class TaskRecipe(_Part):
    """One question. `classes` are names, or tables of name, title and concept (a CURIE of the knowledge graph).

    Regression and survival tasks can do without: their classes are what lies between the edges.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    title: str = ""
    kind: Literal["exclusive", "ordinal", "multilabel", "survival", "ranking", "regression"] = "exclusive"
    source: Literal["fusion", "location"] = "fusion"
    laterality: Laterality = "signed"
    coverage: float = Field(0.9, gt=0, lt=1, description="of the conformal prediction sets")
    classes: tuple[Annotated[ClassSpec, BeforeValidator(_class_of)], ...] = ()
    edges: tuple[float, ...] = Field((), description="of a survival task's intervals, or of a regression task's bins")
    unit: str = Field("", description="of the edges")
    hazards: Literal["free", "proportional"] = Field("free", description="survival: Cox's model is `proportional`")
    follows: str = Field("", description="a ranking task whose candidates the classes group")

    @model_validator(mode="after")
    def _is_a_task(self) -> Self:
        try:
            self.spec()
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self

    def _ends(self) -> tuple[float, ...]:
        """Where intervals begin and end; those of survival begin at 0 and end nowhere."""
        return (0.0, *self.edges, float("inf")) if self.kind == "survival" and self.edges else self.edges

    def spec(self) -> TaskSpec:
        """The task as a model has it, not calibrated yet."""
        return TaskSpec(
            name=self.name,
            title=self.title or self.name.replace("_", " ").capitalize(),
            kind=self.kind,
            source=self.source,
            laterality=self.laterality,
            classes=self.classes or tuple(_class_between(*ends) for ends in itertools.pairwise(self._ends())),
            edges=self.edges,
            unit=self.unit,
            hazards=self.hazards,
            follows=self.follows,
            calibration=Calibration(coverage=self.coverage),
        )


class VolumeRecipe(VolumeSpec):
    """The volume branch. `trunk_from` takes the trunk of a model (name or directory) instead of training one."""

    trunk_from: str = ""

    def spec(self) -> VolumeSpec:
        """The branch as a model has it."""
        return VolumeSpec.model_validate(self.model_dump(exclude={"trunk_from"}))


class TextRecipe(_Part):
    """The text branch: a frozen transformers encoder by name or directory."""

    source: str = MINILM
    window: int = Field(256, ge=16)

    def spec(self, width: int) -> TextSpec:
        """The branch as a model has it."""
        return TextSpec(source=self.source, window=self.window, width=width)


class GraphRecipe(_Part):
    """The graph branch, on the default knowledge graph.

    The control `shuffled` trains on the graph with its relations permuted, to see what its knowledge is worth; the
    model is for comparison only and refuses to diagnose with the real graph.
    """

    size: int = Field(150, ge=1)
    n_layers: int = Field(2, ge=1)
    network: GraphNetwork = "gatv2"
    control: Literal["real", "shuffled"] = "real"

    def spec(self, graph_hash: str) -> GraphSpec:
        """The branch as a model has it."""
        return GraphSpec(size=self.size, n_layers=self.n_layers, network=self.network, hash=graph_hash)


class ModelRecipe(_Part):
    """What the model reads. `record` are names of `record.<name>` columns; what is left out is not part of it."""

    width: int = Field(32, ge=8, multiple_of=4)
    fusion: str = Field("hybrid", description="a name of `medmm.fusion.kinds.FUSIONS`")
    outlier: Literal["distance", "energy"] = "distance"
    joint_width: int | None = Field(None, ge=2, description="of a joint space of image and text, for `medmm similar`")
    volume: VolumeRecipe | None = None
    images: ImagesSpec | None = None
    text: TextRecipe | None = None
    record: tuple[str, ...] = ()
    graph: GraphRecipe | None = None

    @field_validator("fusion")
    @classmethod
    def _fusion_is_known(cls, name: str) -> str:
        if name not in FUSIONS:
            raise ValueError(f"expected one of {', '.join(sorted(FUSIONS))}")
        return name

    @model_validator(mode="after")
    def _reads_something(self) -> Self:
        if self.volume is not None and self.images is not None:
            raise ValueError("expected volume or images, not both")
        if self.images is not None and self.images.network not in IMAGE_NETWORKS:
            raise ValueError(f"expected images.network to be one of {', '.join(IMAGE_NETWORKS)}")
        if not (self.volume or self.images or self.text or self.record):
            raise ValueError("expected something to read: volume, images, text or record")
        return self


class DataRecipe(_Part):
    """Which cases. `split` "" takes the split `train` where the manifest has one, else every row."""

    manifest: Path = Path("cases.csv")
    split: str = ""
    may_skip: bool = Field(False, description="go on without cases that cannot be read")


class ValidationRecipe(_Part):
    """How cases are held out, always by patient.

    `k-fold`: `folds` parts, `repeats` times over. `by-group`: one part for each value of `group`, a record column such
    as `site`. `split`: the manifest's rows of split `validation`. `stop_share` of the patients that a fold learns from
    decide when to stop, where a step has patience. `trunk` "shared" trains one trunk on the masks of all cases, which
    is faster, and flatters answers that depend on it.
    """

    scheme: Literal["k-fold", "by-group", "split"] = "k-fold"
    folds: int = Field(5, ge=2, le=100)
    repeats: int = Field(1, ge=1, le=100)
    group: str = ""
    stratify: tuple[str, ...] = Field((), description="tasks whose classes every fold holds alike; all by default")
    stop_share: float = Field(0.15, gt=0, lt=0.5)
    trunk: Literal["per-fold", "shared"] = "per-fold"

    @model_validator(mode="after")
    def _group_is_named(self) -> Self:
        if self.scheme == "by-group" and not self.group:
            raise ValueError("expected `group`, a record column, for the scheme by-group")
        return self


class TrainingRecipe(_Part):
    """The two steps of training: where (the trunk) and what (fusion and heads).

    `images` trains the image network of `[model.images]` in the second step; without it the network stays as it is.
    `objectives` are switched on by a section of their name.
    """

    where: WhereSettings = WhereSettings()
    what: WhatSettings = WhatSettings()
    images: ImageSettings | None = None
    objectives: Objectives = Objectives()


class SearchRecipe(_Part):
    """Hyperparameter search inside each fold (nested), over settings of the step `what`; 0 trials is no search."""

    trials: int = Field(0, ge=0, le=10_000)
    inner_folds: int = Field(3, ge=2, le=20)
    learning_rate: tuple[float, float] = (5e-4, 1e-2)
    weight_decay: tuple[float, float] = (1e-3, 1.0)
    modality_dropout: tuple[float, float] = (0.0, 0.5)


class LeaksRecipe(_Part):
    """What the leak guard lets pass, on purpose. `mask_label` covers the label's own words in reports instead."""

    allow: tuple[LeakKind, ...] = ()
    mask_label: bool = False


class CardRecipe(_Part):
    """What only people know of a model; it goes into the model card."""

    use: str = ""
    data: str = ""
    licence: str = ""
    limits: str = ""


class Recipe(_Part):
    """A whole recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = "0.1.0"
    seed: int = Field(0, ge=0)
    logger: LoggerName = "tensorboard"
    data: DataRecipe = DataRecipe()
    model: ModelRecipe
    tasks: tuple[TaskRecipe, ...] = Field(min_length=1)
    validation: ValidationRecipe = ValidationRecipe()
    training: TrainingRecipe = TrainingRecipe()
    search: SearchRecipe = SearchRecipe()
    leaks: LeaksRecipe = LeaksRecipe()
    card: CardRecipe = CardRecipe()

    @field_validator("tasks")
    @classmethod
    def _names_differ(cls, tasks: tuple[TaskRecipe, ...]) -> tuple[TaskRecipe, ...]:
        if len({task.name for task in tasks}) != len(tasks):
            raise ValueError("expected every task to be named once")
        return tasks

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        names = {task.name for task in self.tasks}
        unknown = sorted(set(self.validation.stratify) - names)
        if unknown:
            raise ValueError(
                f"validation.stratify names no task ({unknown[0]!r}; tasks are {', '.join(sorted(names))})"
            )
        rankings = {task.name for task in self.tasks if task.kind == "ranking"}
        lost = [task for task in self.tasks if task.follows and task.follows not in rankings]
        if lost:
            raise ValueError(f"{lost[0].name} follows no ranking task of this recipe ({lost[0].follows!r})")
        if any(task.source == "location" for task in self.tasks) and self.model.volume is None:
            raise ValueError('a task with source "location" needs [model.volume]')
        if self.training.images is not None and self.model.images is None:
            raise ValueError("training.images needs an image network: [model.images]")
        if self.training.images is not None and self.search.trials:
            raise ValueError("a search needs features that stay: leave out training.images, or set search.trials = 0")
        self._check_objectives()
        return self

    def _check_objectives(self) -> None:
        """Raise where an objective has nothing to work on."""
        on, model = self.training.objectives, self.model
        needs = {
            "contrastive": (model.joint_width is not None, "joint_width under [model]"),
            "cross_modal_autoencoder": (
                self.training.images is not None and model.text is not None, "[training.images] and [model.text]",
            ),
            "adversarial": (
                self.training.images is not None or (model.volume is not None and not model.volume.trunk_from),
                "[training.images], or a trunk that learns",
            ),
            "text_noise": (model.text is not None, "[model.text]"),
            "masked_language": (model.text is not None, "[model.text]"),
        }  # fmt: skip
        for name, (is_there, what) in needs.items():
            if getattr(on, name) is not None and not is_there:
                raise ValueError(f"the objective {name} needs {what}")

    def labels(self) -> Labels:
        """The questions, not calibrated yet."""
        return Labels(tasks=tuple(task.spec() for task in self.tasks))


def read_recipe(path: Path, manifest: Path | None = None) -> Recipe:
    """Return the recipe in a TOML file; its manifest is relative to it, unless another is given.

    Raises:
        UsageError: `config.key`, naming the line, the path of the key and the nearest valid name.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"The recipe cannot be read ({reason}).", code="config.key") from None
    if len(content) > MAX_BYTES:
        raise UsageError("The recipe is too large to be one.", code="config.key")
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"The recipe is not TOML: {error}.", code="config.key") from None
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _recipe_error(error, text) from None
    place = manifest if manifest is not None else path.parent / recipe.data.manifest
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"manifest": place})})


def line_of(text: str, key: Sequence[str | int]) -> int:
    """Return the line (from 1) of a key path in a TOML text, or of the deepest part of it that is found.

    >>> line_of('name = "a"\\n[model]\\nwidth = 3\\n', ("model", "width"))
    3
    """
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    found: dict[tuple[str | int, ...], int] = {(): 1}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
        if header:
            names: tuple[str | int, ...] = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if header[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
                table = (*names, counts[names])
            else:
                table = next(((*outer, counts[outer], *names[len(outer) :]) for outer in counts
                              if names[: len(outer)] == outer), names)  # fmt: skip
            for size in range(1, len(table) + 1):
                found.setdefault(table[:size], number)
            continue
        assignment = re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
        if assignment:
            parts = tuple(part.strip("\"'") for part in assignment[1].split("."))
            for size in range(1, len(parts) + 1):
                found.setdefault((*table, *parts[:size]), number)
    places = [found[tuple(key[:size])] for size in range(len(key) + 1) if tuple(key[:size]) in found]
    return places[-1]


def _recipe_error(error: ValidationError, text: str) -> UsageError:
    first = error.errors(include_url=False, include_input=False)[0]
    key = first["loc"]
    name = ".".join(str(part) for part in key) or "the recipe"
    line = line_of(text, key)
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(key[:-1])
        near = difflib.get_close_matches(str(key[-1]), known, n=1)
        return UsageError(
            f"Line {line} of the recipe: there is no key {name[:80]!r}.",
            code="config.key",
            remedy=f"Did you mean {near[0]!r}?" if near else f"Keys there are {', '.join(known)}.",
        )
    if first["type"] == "missing":
        return UsageError(f"Line {line} of the recipe: the key {name[:80]!r} is missing.", code="config.key")
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(f"Line {line} of the recipe: {name[:80]} is not valid: {message}.", code="config.key")


def _known_keys(place: Sequence[str | int]) -> list[str]:
    """The keys that are valid at a place of the schema, found by walking it."""
    schema: Mapping[str, Any] = Recipe.model_json_schema()
    definitions, node = schema["$defs"], schema
    for part in place:
        node = _resolved(node, definitions)
        node = node["items"] if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return sorted(_resolved(node, definitions).get("properties", {}))


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node behind references and optional parts."""
    while True:
        if "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[-1]]
        elif "anyOf" in node:
            node = next((option for option in node["anyOf"] if option.get("type") != "null"), {})
        elif "allOf" in node:
            node = node["allOf"][0]
        else:
            return node
