"""What comes out of a diagnosis: task results, regions, and the explanation. No torch here: writers need none.

Arrays over voxels are on the *source* grid of the volume they belong to: (I, J, K) in RAS+ with their own affine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medmm.types import Case, Note

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group
    from rich.table import Table

    from medmm.report.content import CaseReport

TaskKind = Literal["exclusive", "multilabel", "ordinal", "regression", "survival", "ranking"]
NOTICEABLE = 0.001  # of a probability; what is less is no difference
MAX_LISTED = 6  # classes of a prediction set that are named where the model keeps silent; a longer one is counted
Modality = Literal["volume", "text", "record", "graph"]


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One possible answer: `name` (stable), `title` (for people), `concept` (CURIE in the knowledge graph or "")."""

    name: str
    title: str
    concept: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueEstimate:
    """A number in `unit` with the interval that holds `coverage`; None is a time beyond `limit`, the last one known."""

    value: float | None
    low: float | None
    high: float | None
    unit: str
    coverage: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The answer to one question. `probabilities` (L,) are calibrated, in the order of `classes`.

    `prediction_set` holds every class that a conformal procedure could not exclude at `coverage` (for example 0.9).
    `estimate` is the answer of tasks about a number or a time: their classes are intervals.
    An abstained task keeps its probabilities, so that a reader sees why; `prediction` stays the most probable class.
    """

    task: str
    title: str
    kind: TaskKind
    classes: tuple[ClassLabel, ...]
    probabilities: np.ndarray
    prediction: str
    prediction_set: tuple[str, ...]
    coverage: float
    abstained: bool = False
    abstain_reason: str = ""
    estimate: ValueEstimate | None = None

    @property
    def confidence(self) -> float:
        """Probability of the predicted class."""
        return float(self.probabilities[[label.name for label in self.classes].index(self.prediction)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A structure found in the volume: `mask` uint8 (I, J, K) on the source grid of `role`; empty when not found."""

    name: str
    title: str
    role: str
    mask: np.ndarray
    affine_ras: np.ndarray
    peak_probability: float

    @property
    def is_found(self) -> bool:
        """Whether any voxel is marked."""
        return bool(self.mask.any())

    @property
    def volume_ml(self) -> float:
        """Marked volume in millilitres, from the affine (right only where the source's spacing is)."""
        return float(self.mask.sum() * abs(np.linalg.det(self.affine_ras[:3, :3])) / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfDistribution:
    """How far the case lies from the training cases; flagged above `threshold` (a quantile of the training cases)."""

    score: float
    threshold: float
    is_flagged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model and which graph gave a result."""

    name: str
    version: str
    weights_sha256: str
    graph_hash: str
    device: str
    precision: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All answers for a case."""

    case_id: str
    tasks: Mapping[str, TaskResult]
    regions: Mapping[str, Region] = field(default_factory=dict)
    present: Mapping[str, bool] = field(default_factory=dict)
    out_of_distribution: OutOfDistribution | None = None
    model: ModelIdentity
    notes: tuple[Note, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether every task abstained."""
        return all(result.abstained for result in self.tasks.values())

    def __rich__(self) -> "Table":
        """The answers as a table in a terminal (`rich.print(diagnosis)`)."""
        from medmm.report.display import diagnosis_table

        return diagnosis_table(self)

    def _repr_html_(self) -> str:
        """The answers as a table in a notebook."""
        from medmm.report.display import diagnosis_html

        return diagnosis_html(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeAttribution:
    """Attribution (I, J, K) float32 on the source grid of `role`, scaled to [0, 1]; `method` names how it was made.

    `share` is this series' part of all the attribution, where a method tells the series apart; else 1.
    """

    role: str
    task: str
    target: str
    method: str
    values: np.ndarray
    affine_ras: np.ndarray
    share: float = 1.0

    @property
    def peak_index(self) -> tuple[int, int, int]:
        """Voxel (i, j, k) of the largest attribution."""
        i, j, k = np.unravel_index(int(np.argmax(self.values)), self.values.shape)
        return int(i), int(j), int(k)

    @property
    def peak_ras_mm(self) -> tuple[float, float, float]:
        """World position of the peak."""
        x, y, z = (self.affine_ras @ np.array([*self.peak_index, 1.0]))[:3]
        return float(x), float(y), float(z)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordAttribution:
    """`report.text[start:end]` and how much it spoke for (positive) or against (negative) the target."""

    start: int
    end: int
    text: str
    value: float
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceAttribution:
    """A sentence `report.text[start:end]` with the sum of what its word pieces contributed."""

    start: int
    end: int
    text: str
    value: float
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MentionEvidence:
    """A concept that the linker found in the report. `status` is present, absent or uncertain."""

    start: int
    end: int
    text: str
    concept: str
    name: str
    kind: str
    status: str
    experiencer: str
    temporality: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldAttribution:
    """A record field, the value used (as text), and its signed attribution for the target."""

    name: str
    value: str
    attribution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptAttribution:
    """A graph concept of the case's subgraph and its signed attribution; `origin`: report, image or graph."""

    concept: str
    name: str
    kind: str
    origin: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PathHop:
    """One edge of an evidence path, with where the claim comes from and how far it is trusted (0-1)."""

    subject: str
    subject_name: str
    predicate: str
    object: str
    object_name: str
    source: str
    source_version: str
    trust: float
    is_forward: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePath:
    """A chain of edges from evidence of the case to the answer, and its score (0-1)."""

    hops: tuple[PathHop, ...]
    score: float
    origin: str = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityShare:
    """Exact Shapley value of a modality for the target's probability, against all modalities absent."""

    modality: str
    is_present: bool
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateShare:
    """A candidate of a ranking, and its part (0-1) of what the ranking says for the target of a task that follows."""

    name: str
    title: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingShare:
    """What a ranking did to the target's probability: `attribution` is how much that falls where it is not followed.

    A part of what the modalities' shares say, not one more of them. `task` and `title` are the ranking's;
    `candidates` those that speak most for the target, the strongest first.
    """

    task: str
    title: str
    attribution: float
    candidates: tuple[CandidateShare, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedPart:
    """A sentence of the report (`start`, `end` count characters) or a concept (`concept` is its id, no offsets)."""

    text: str
    start: int | None = None
    end: int | None = None
    concept: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterfactual:
    """The smallest set found whose removal changes the answer; `removed` is empty where none was found.

    `is_smallest`: every smaller set was tried, so that there is none. `answer` and `probability` are what the model
    says without the set. `n_asked` of at most `budget` questions were put to the model.
    """

    kind: Literal["sentences", "concepts"]
    removed: tuple[RemovedPart, ...]
    answer: str
    probability: float
    is_smallest: bool
    n_candidates: int
    n_asked: int
    budget: int

    @property
    def is_found(self) -> bool:
        """Whether a set was found that changes the answer."""
        return bool(self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationCheck:
    """A test of an explanation on this very case, in numbers and in words.

    Tests that hold a probability against one at random are passed from `NOTICEABLE` on.
    """

    name: str
    value: float
    reference: float
    is_passed: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarCase:
    """A training case near this one: opaque id, similarity (cosine), its known labels."""

    case_id: str
    similarity: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExplanation:
    """Why one task got its answer. `baseline_probability` is the target's probability with every modality absent."""

    task: str
    target: str
    volumes: tuple[VolumeAttribution, ...] = ()
    words: tuple[WordAttribution, ...] = ()
    fields: tuple[FieldAttribution, ...] = ()
    concepts: tuple[ConceptAttribution, ...] = ()
    paths: tuple[EvidencePath, ...] = ()
    modalities: tuple[ModalityShare, ...] = ()
    baseline_probability: float = 0.0
    checks: tuple[ExplanationCheck, ...] = ()
    sentences: tuple[SentenceAttribution, ...] = ()
    text_method: str = ""
    counterfactuals: tuple[Counterfactual, ...] = ()
    ranking: RankingShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One explanation per case, over all modalities and tasks; `case` and `diagnosis` are what it explains."""

    case: Case
    diagnosis: Diagnosis
    tasks: Mapping[str, TaskExplanation]
    mentions: tuple[MentionEvidence, ...] = ()
    similar: tuple[SimilarCase, ...] = ()
    notes: tuple[Note, ...] = ()
    model_card: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready numbers and words; voxel arrays appear by role, method and peak only."""
        from medmm.report.content import explanation_to_dict

        return explanation_to_dict(self)

    def report(self) -> "CaseReport":
        """The report's content, ready for `.save(folder)`."""
        from medmm.report.content import build_case_report

        return build_case_report(self)

    def plot(self, task: str) -> "Figure":
        """A matplotlib figure of one task's answer: key slice, classes, modality shares (extra `plot`)."""
        from medmm.report.plots import plot_explanation

        return plot_explanation(self, task)

    def __rich__(self) -> "Group":
        """The answers and what they rest on, in a terminal (`rich.print(explanation)`)."""
        from medmm.report.display import explanation_group

        return explanation_group(self)

    def _repr_html_(self) -> str:
        """The answers and what they rest on, in a notebook."""
        from medmm.report.display import explanation_html

        return explanation_html(self)
