"""What `case.json` holds: the published schema of a case's result. Words and numbers only; arrays live in NIfTI files.

`case.schema.json` beside this file is generated from these models (`python -m medmm.report.document`) and tested equal.
Versions follow SemVer: a reader of 1.x may meet fields that it does not know, and misses none that it does.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medmm.results import TaskKind

SCHEMA_VERSION = "1.1"
SCHEMA_ID = f"urn:medmm:schema:case:{SCHEMA_VERSION}"
SCHEMA_PATH = Path(__file__).with_name("case.schema.json")


_Row = tuple[float, float, float, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _only_unicode(cls, values: Any) -> Any:
        """Lone surrogates (half a character of a badly decoded file) have no UTF-8 form; they become `?`."""
        if isinstance(values, dict):
            return {_unicode(key): _unicode(value) for key, value in values.items()}
        return values


class ClassProbability(_Part):
    """One possible answer and its calibrated probability."""

    name: str
    title: str
    concept: str = Field(description="CURIE in the knowledge graph, or empty")
    probability: float


class ModalityPart(_Part):
    """Exact Shapley value of one modality for the target's probability."""

    modality: str
    is_present: bool
    share: float


class HeatmapPart(_Part):
    """A voxel attribution: how it was made, where its peak lies, and the NIfTI file with its values (0-1)."""

    role: str
    method: str
    target: str
    peak_index: tuple[int, int, int] = Field(description="Voxel (i, j, k) in RAS+ order, counted from 0")
    peak_slice: int = Field(description="Slice of the plane of acquisition, counted from 0")
    peak_ras_mm: tuple[float, float, float]
    peak_region: str | None = Field(description="Name of the marked region that holds the peak")
    file: str
    share: float = Field(1.0, description="This series' part of the attribution, where the method tells series apart")


class WordPart(_Part):
    """A stretch of the report by its character offsets; `text` only where the report's text was asked for."""

    start: int
    end: int
    value: float
    section: str
    text: str | None = None


class RemovedPart(_Part):
    """A sentence by its character offsets, or a concept; `text` only where the report's text was asked for."""

    start: int | None = None
    end: int | None = None
    concept: str = ""
    text: str | None = None


class CounterfactualPart(_Part):
    """The smallest set found whose removal changes the answer; `removed` is empty where none was found."""

    kind: Literal["sentences", "concepts"]
    removed: tuple[RemovedPart, ...]
    answer: str = Field(description="What the model says without the set")
    probability: float
    is_smallest: bool = Field(description="Whether every smaller set was tried")
    n_candidates: int
    n_asked: int
    budget: int


class FieldPart(_Part):
    """A field of the record and its signed attribution."""

    name: str
    value: str
    attribution: float


class CandidatePart(_Part):
    """A candidate of a ranking and its part of what the ranking says for the target."""

    name: str
    title: str
    share: float


class RankingPart(_Part):
    """What following a ranking did to the target's probability; the modalities' shares hold it already."""

    task: str
    title: str
    attribution: float
    candidates: tuple[CandidatePart, ...]


class ConceptPart(_Part):
    """A knowledge-graph concept and its signed attribution."""

    concept: str
    name: str
    kind: str
    origin: str
    value: float


class HopPart(_Part):
    """One edge of an evidence path."""

    subject: str
    subject_name: str
    predicate: str
    object: str
    object_name: str
    source: str
    source_version: str
    trust: float
    is_forward: bool = Field(description="False where the path walks the edge from object to subject")


class PathPart(_Part):
    """A chain of edges from evidence of the case to the answer."""

    score: float
    origin: str
    hops: tuple[HopPart, ...]


class CheckPart(_Part):
    """A test of the explanation on this case; `value` is null where it could not be computed."""

    name: str
    value: float | None
    reference: float | None
    is_passed: bool
    sentence: str


class WhyPart(_Part):
    """Why a task got its answer."""

    target: str
    baseline_probability: float = Field(description="Probability of the target with every modality absent")
    modalities: tuple[ModalityPart, ...]
    heatmaps: tuple[HeatmapPart, ...]
    words: tuple[WordPart, ...]
    fields: tuple[FieldPart, ...]
    concepts: tuple[ConceptPart, ...]
    paths: tuple[PathPart, ...] = Field(description="Empty where the graph holds no path; none is ever invented")
    checks: tuple[CheckPart, ...]
    sentences: tuple[WordPart, ...] = ()
    text_method: str = ""
    counterfactuals: tuple[CounterfactualPart, ...] = ()
    ranking: RankingPart | None = Field(None, description="Of the task that this one follows, where it follows one")


class EstimatePart(_Part):
    """A number or time with the interval that holds `coverage`; null is beyond `limit`, the last time that is known."""

    value: float | None
    low: float | None
    high: float | None
    unit: str
    coverage: float
    limit: float


class TaskPart(_Part):
    """The answer to one question."""

    title: str
    kind: TaskKind
    prediction: str
    confidence: float = Field(description="Calibrated probability of `prediction`")
    prediction_set: tuple[str, ...] = Field(description="Classes that could not be excluded at `coverage`")
    coverage: float
    abstained: bool
    abstain_reason: str
    classes: tuple[ClassProbability, ...]
    estimate: EstimatePart | None = Field(None, description="The answer of tasks about a number or a time")
    why: WhyPart | None


class RegionPart(_Part):
    """A structure marked in a volume; slices of `plane` are counted from 0 along its axis (RAS+)."""

    title: str
    role: str
    is_found: bool
    volume_ml: float | None = Field(description="Null where the source states no voxel size")
    voxel_count: int
    peak_probability: float
    plane: str = Field(description="axial, coronal or sagittal: the plane of acquisition")
    slice_count: int
    first_slice: int | None
    last_slice: int | None
    largest_slice: int | None
    centre_ras_mm: tuple[float, float, float] | None
    file: str | None


class SeriesPart(_Part):
    """A volume that was read."""

    role: str
    modality: str
    unit: str
    channel_count: int
    shape_voxels: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine_ras: tuple[_Row, _Row, _Row, _Row] = Field(description="From voxel (i, j, k, 1) to mm, RAS+; not rounded")
    plane: str = Field(description="axial, coronal or sagittal: the plane of acquisition")
    is_placed: bool = Field(description="False for pictures, which state neither orientation nor voxel size")


class MentionPart(_Part):
    """A concept found in the report; `text`, the words themselves, only where the report's text was asked for."""

    start: int
    end: int
    concept: str
    name: str
    kind: str
    status: str
    experiencer: str
    temporality: str
    score: float
    text: str | None = None


class SimilarPart(_Part):
    """A training case near this one."""

    case_id: str
    similarity: float
    labels: dict[str, str]


class NotePart(_Part):
    """Something the reader must know: a stable code and one sentence."""

    code: str
    message: str


class OutOfDistributionPart(_Part):
    """How far the case lies from the training cases."""

    score: float
    threshold: float
    is_flagged: bool


class StatementPart(_Part):
    """A sentence of the draft and the JSON pointers of the values that it states."""

    text: str
    sources: tuple[str, ...]


class DraftPart(_Part):
    """The draft findings and impression, composed from the values in this document by fixed templates."""

    language: str
    findings: tuple[StatementPart, ...] = Field(description="What was read, marked and mentioned")
    impression: tuple[StatementPart, ...] = Field(description="One statement per task")
    basis: tuple[StatementPart, ...] = Field(description="What the answers rest on, and what did not pass its tests")


class ProvenancePart(_Part):
    """How the result came about. The last four are null where no batch run made the report."""

    medmm_version: str
    model_name: str
    model_version: str
    weights_sha256: str
    graph_hash: str
    input_sha256: dict[str, str]
    device: str
    precision: str
    rounding: str
    config_sha256: str | None = None
    seed: int | None = None
    started_utc: str | None = None
    finished_utc: str | None = None


class CaseDocument(_Part):
    """The result of one case, as written to `case.json`."""

    schema_version: str
    disclaimer: str
    case_id: str
    abstained: bool
    tasks: dict[str, TaskPart]
    regions: dict[str, RegionPart]
    series: tuple[SeriesPart, ...]
    present: dict[str, bool]
    out_of_distribution: OutOfDistributionPart | None
    mentions: tuple[MentionPart, ...]
    similar: tuple[SimilarPart, ...]
    notes: tuple[NotePart, ...]
    model_card: dict[str, str]
    draft: DraftPart
    report_text: str | None = Field(description="Only where asked for (--include-report-text)")
    provenance: ProvenancePart


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace").decode("utf-8")
    if isinstance(value, dict):
        return {_unicode(key): _unicode(part) for key, part in value.items()}
    return value


def schema_json() -> str:
    """The JSON schema of `case.json` as text."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    schema = {**head, **CaseDocument.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_json(), encoding="utf-8")
