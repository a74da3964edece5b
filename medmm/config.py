"""What a model is made of, as written in a model directory: `config.json` (networks) and `labels.json` (answers)."""

import itertools
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medmm.encoders.graph import GraphNetwork
from medmm.encoders.record import RecordField
from medmm.encoders.slice_unet import TrunkWidths
from medmm.encoders.trunks import TrunkName
from medmm.encoders.volume import VolumeTokenKind
from medmm.location import Laterality
from medmm.preprocess import Preprocessing
from medmm.preprocess_images import ImagePreprocessing
from medmm.results import ClassLabel
from medmm.types import Titles
from medmm.uncertainty import SetKind, SetRule

MODALITIES = ("volume", "text", "record", "graph")


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class RegionSpec(_Spec):
    """A structure that the trunk delineates."""

    name: str
    title: str
    concept: str = ""
    threshold: float = Field(0.5, gt=0, lt=1)


class VolumeSpec(_Spec):
    """The volume branch: what goes in, the trunk and the widths of a `basic` one, the regions that come out."""

    preprocessing: Preprocessing
    trunk: TrunkName = "basic"
    widths: TrunkWidths = (16, 24, 48, 96, 128, 16)
    regions: tuple[RegionSpec, ...] = Field(min_length=1)
    tokens: tuple[VolumeTokenKind, ...] = Field(("descriptor", "features", "slices"), min_length=1)
    is_required: bool = True


class ImagesSpec(_Spec):
    """The volume branch of cases made of any number of images or series: a network by name gives tokens for each.

    `network` is a name of `medmm.encoders.image_networks.IMAGE_NETWORKS`; `grid` x `grid` (x `grid`) tokens an image.
    """

    preprocessing: ImagePreprocessing = ImagePreprocessing()
    network: str = "resnet18"
    grid: int = Field(1, ge=1, le=8)
    is_required: bool = True


class TextSpec(_Spec):
    """The text branch: a frozen transformers encoder by name, its window in word pieces, its width."""

    source: str = Field(description="minilm, a directory, a Hugging Face id, or ./text inside the model directory")
    window: int = Field(256, ge=16)
    width: int


class GraphSpec(_Spec):
    """The graph branch: size of a case's subgraph, layers, and the graph that the model was trained with."""

    size: int = Field(250, ge=1)
    n_layers: int = Field(2, ge=1)
    network: GraphNetwork = "gatv2"
    sources: bool = Field(
        False, description="in ranking tasks, compare the report with what the graph's sources say of each candidate"
    )
    hash: str


class ClassSpec(_Spec):
    """One possible answer; `concept` is its CURIE in the knowledge graph, or empty."""

    name: str
    title: str
    concept: str = ""

    def label(self) -> ClassLabel:
        """The class as results carry it."""
        return ClassLabel(self.name, self.title, self.concept)


class Calibration(_Spec):
    """How raw logits become honest: temperature, the conformal prediction set, and when the model keeps silent.

    `quantile` is the (1 - alpha) quantile of the `sets` score of the true class over `n` cases held out from training;
    a class is in the set when its score does not exceed it (see `medmm.uncertainty.SetRule`; for `lac` that is a
    probability of 1 - quantile at least). `thresholds` (one a class) are for multi-label tasks: a class is said from
    there on. A task abstains when its set holds more than `max_set_size` classes, or its confidence is below
    `min_confidence`.
    """

    temperature: float = Field(1.0, gt=0)
    quantile: float = Field(1.0, ge=0)
    coverage: float = Field(0.9, gt=0, lt=1)
    n: int = Field(0, ge=0)
    sets: SetKind = "lac"
    penalty: float = Field(0.0, ge=0, description="`raps`: added for each class beyond the free ones")
    n_free: int = Field(1, ge=0, description="`raps`: classes without a penalty")
    thresholds: tuple[float, ...] = ()
    max_set_size: int = Field(1, ge=1)
    min_confidence: float = Field(0.0, ge=0, le=1)

    @property
    def rule(self) -> SetRule:
        """How prediction sets are made."""
        return SetRule(self.sets, self.penalty, self.n_free)


class TaskSpec(_Spec):
    """One question. `location` tasks are answered from where the region lies, `fusion` tasks from everything.

    `laterality` is for location tasks: `folded` where left and right give the same answer. The classes of `survival`
    tasks are intervals of time, the last without an end; those of `ranking` tasks candidates known by their concepts.
    `follows` names a ranking task whose candidates this task's classes group, as kinds of disease group diagnoses: what
    is ranked answers this question, too (`medmm.following`).
    """

    name: str
    title: str
    kind: Literal["exclusive", "ordinal", "multilabel", "survival", "ranking", "regression"]
    source: Literal["fusion", "location"] = "fusion"
    laterality: Laterality = "signed"
    classes: tuple[ClassSpec, ...] = Field(min_length=1)
    calibration: Calibration = Calibration()
    edges: tuple[float, ...] = ()
    unit: str = ""
    hazards: Literal["free", "proportional"] = "free"
    follows: str = ""

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        _check_unique("class", [item.name for item in self.classes])
        if len(self.classes) < 2 and self.kind != "multilabel":
            raise ValueError("Expected at least two classes (got one).")
        if self.source == "location" and self.kind not in ("exclusive", "ordinal"):
            raise ValueError(f"Expected a location task to be exclusive or ordinal (got {self.kind}).")
        if self.follows and (self.source != "fusion" or self.kind not in ("exclusive", "ordinal")):
            got = f"{self.source}, {self.kind}"
            raise ValueError(f"Expected a task that follows a ranking to be fused, exclusive or ordinal (got {got}).")
        self._check_edges()
        if self.calibration.thresholds and len(self.calibration.thresholds) != len(self.classes):
            raise ValueError("Expected a threshold for every class, or none.")
        return self

    def _check_edges(self) -> None:
        wanted = {"survival": len(self.classes) - 1, "regression": len(self.classes) + 1}.get(self.kind, 0)
        if self.kind == "regression" and not self.edges:
            raise ValueError("Expected edges of a regression task's bins (got none).")
        if self.edges and len(self.edges) != wanted:
            raise ValueError(f"Expected {wanted} edges for {len(self.classes)} intervals (got {len(self.edges)}).")
        if any(low >= high for low, high in itertools.pairwise(self.edges)):
            raise ValueError("Expected edges that grow.")
        if self.kind == "survival" and self.edges and self.edges[0] <= 0:
            raise ValueError("Expected the first interval to end after 0.")

    def index(self, class_name: str) -> int:
        """Position of a class."""
        return [item.name for item in self.classes].index(class_name)


class ModelConfig(_Spec):
    """The networks of a model. What is None is not part of it.

    `volume` (sequences of known roles on one grid, regions) and `images` (whatever images there are) are two ways to
    read the modality "volume"; a model has one of them at most.
    """

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str
    width: int = Field(64, ge=8, multiple_of=4, description="shared by four attention heads")
    outlier: Literal["distance", "energy"] = Field(
        "distance", description="what makes a case unlike the training cases: its volume's features, or weak answers"
    )
    joint_width: int | None = Field(
        None, ge=2, description="of a common space of the modalities, for retrieval from one to another"
    )
    fusion: str = Field("hybrid", description="how modalities are joined: a name of `medmm.fusion.kinds.FUSIONS`")
    volume: VolumeSpec | None = None
    images: ImagesSpec | None = None
    text: TextSpec | None = None
    record: tuple[RecordField, ...] = ()
    graph: GraphSpec | None = None

    @model_validator(mode="after")
    def _reads_volumes_one_way(self) -> Self:
        if self.volume is not None and self.images is not None:
            raise ValueError("Expected either volume or images (got both).")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the model was trained with, in the order of `MODALITIES`."""
        has = {"volume": self.volume or self.images, "text": self.text, "record": self.record, "graph": self.graph}
        return tuple(name for name in MODALITIES if has[name])


class Labels(_Spec):
    """The questions that a model answers."""

    format: Literal[1] = 1
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        _check_unique("task", [item.name for item in self.tasks])
        return self

    @model_validator(mode="after")
    def _follow_rankings(self) -> Self:
        rankings = {item.name for item in self.tasks if item.kind == "ranking" and item.source == "fusion"}
        for task in self.tasks:
            if task.follows and task.follows not in rankings:
                raise ValueError(f"Expected {task.name} to follow a ranking task (got {task.follows!r}).")
        return self

    def task(self, name: str) -> TaskSpec:
        """One question by name."""
        return next(task for task in self.tasks if task.name == name)

    def titles(self) -> Titles:
        """What people read for each question's name and each answer's."""
        return {
            task.name: {"title": task.title, "classes": {item.name: item.title for item in task.classes}}
            for task in self.tasks
        }

    def fusion_tasks(self) -> tuple[TaskSpec, ...]:
        """The tasks answered by fusion of modalities."""
        return tuple(task for task in self.tasks if task.source == "fusion")

    def location_tasks(self) -> tuple[TaskSpec, ...]:
        """The tasks answered from where the region lies."""
        return tuple(task for task in self.tasks if task.source == "location")


def _check_unique(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"Expected every {what} to be named once (got {', '.join(names)}).")
