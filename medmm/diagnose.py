"""A loaded model at work: a case in, a diagnosis out, and the explanation of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kg import KnowledgeGraph
from medmm.cases import EVERY_SERIES
from medmm.checkpoint import OWN_TEXT, OWN_TEXT_SOURCE, LoadedModel, load_checkpoint
from medmm.config import MODALITIES, RegionSpec, TaskSpec, TextSpec
from medmm.device import Precision, choose_batch_mib, choose_device
from medmm.encoders.lstm_text import LSTM_CONFIG, LstmTextEncoder
from medmm.encoders.text import TextEncoder
from medmm.errors import InputError, UsageError
from medmm.estimates import estimate_time, estimate_value
from medmm.explain.methods import ExplanationMethods
from medmm.heads import pooled_logits, probabilities
from medmm.inputs import CaseReader, CaseView, collate
from medmm.model import ModelOutput
from medmm.results import Diagnosis, Explanation, ModelIdentity, OutOfDistribution, Region, TaskResult, ValueEstimate
from medmm.types import Case, Note, Titles
from medmm.uncertainty import Decision, decide, decide_labels

MEMBERS = "members"  # further model directories inside one: an ensemble
SHIPPED = Path(__file__).parent / "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a caller must know to feed a model and to show its answers.

    `answers` are names that a report should not give away, `titles` what people read for names.
    """

    name: str
    version: str
    modalities: tuple[str, ...]
    roles: tuple[str, ...]
    is_volume_required: bool
    record_fields: tuple[str, ...]
    weights_sha256: str
    graph_hash: str
    answers: tuple[str, ...] = ()
    titles: Titles = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _OutlierScore:
    """A score (1,) and the threshold above which a case is flagged."""

    score: torch.Tensor
    threshold: torch.Tensor


class Diagnoser:
    """One model on one device. `diagnose` and `explain` share what was computed of the latest case.

    `members` are further models of the same questions (a deep ensemble: Lakshminarayanan, Pritzel, Blundell, NeurIPS
    2017): probabilities are averaged, regions and explanations are the first model's.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        text_encoder: TextEncoder | LstmTextEncoder | None,
        graph: KnowledgeGraph | None,
        device: torch.device,
        notes: tuple[Note, ...] = (),
        members: "Sequence[Diagnoser]" = (),
        precision: Precision = "float32",
        batch_mib: float = 0,
    ) -> None:
        self.loaded = loaded
        self.model = loaded.model.to(device).eval().requires_grad_(False)
        self.device = device
        self.reader = CaseReader(self.model, text_encoder, graph, precision, batch_mib)
        self.notes = notes
        self.members = tuple(members)
        self._check_members()
        self._views: dict[int, CaseView] = {}

    @property
    def spec(self) -> ModelSpec:
        """Name, version and what the model reads."""
        config = self.model.config
        volume = config.volume or config.images
        roles = (EVERY_SERIES,) if config.images is not None else ()
        return ModelSpec(
            name=config.name,
            version=config.version,
            modalities=config.modalities,
            roles=config.volume.preprocessing.roles if config.volume is not None else roles,
            is_volume_required=volume is not None and volume.is_required,
            record_fields=tuple(item.name for item in config.record),
            weights_sha256=self.loaded.weights_sha256,
            graph_hash=self.reader.graph.hash if self.reader.graph is not None else "",
            titles=self.model.labels.titles(),
            answers=tuple(item.title for task in self.model.labels.fusion_tasks() for item in task.classes),
        )

    @property
    def card(self) -> str:
        """The model card (Markdown)."""
        return self.loaded.card

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What was measured on the model, as in its `metrics.json`."""
        return self.loaded.metrics

    def diagnose(self, case: Case) -> Diagnosis:
        """Return the calibrated answers for a case.

        Raises:
            InputError: `modality.missing` where nothing of the case can be used, or a required modality is absent.
        """
        view = self.view(case)
        if not any(view.features.present):
            raise InputError(
                "Expected a volume, report or record that the model reads (found none).", code="modality.missing"
            )
        if self.spec.is_volume_required and not view.features.present[0]:
            kinds = "" if EVERY_SERIES in self.spec.roles else f" of one of the kinds {', '.join(self.spec.roles)}"
            raise InputError(
                f"Expected a series{kinds} (found none).",
                code="modality.missing",
                remedy="Check with `medmm check` how the study's series were recognised.",
            )
        output = self.answer(view)
        outlier = self._out_of_distribution(view, output)
        return Diagnosis(
            case_id=case.case_id,
            tasks={
                task.name: self._answer(task, self._chances(task, output, case), view, outlier)
                for task in self.model.labels.tasks
            },
            regions={region.name: region for region in self._regions(view)},
            present=dict(zip(MODALITIES, view.features.present, strict=True)),
            out_of_distribution=outlier,
            model=self._identity(),
            notes=(*self.notes, *view.notes),
        )

    def explain(
        self,
        case: Case,
        diagnosis: Diagnosis,
        level: Literal["fast", "full"] = "fast",
        methods: ExplanationMethods | None = None,
    ) -> Explanation:
        """Return why every task got its most probable answer.

        Args:
            case: The case that was diagnosed.
            diagnosis: What `diagnose` said of it.
            level: `full` adds counterfactuals and tests of the explanation itself, at the price of many more passes.
            methods: How voxels and words are attributed; by default as `medmm.explain.methods` says.
        """
        return self.explain_many([case], [diagnosis], level, methods)[0]

    def explain_many(
        self,
        cases: Sequence[Case],
        diagnoses: Sequence[Diagnosis],
        level: Literal["fast", "full"] = "fast",
        methods: ExplanationMethods | None = None,
    ) -> list[Explanation]:
        """Return what `explain` says of each case, from one forward and one backward pass a task for all of them.

        Numbers are those of `explain` up to rounding: how a matrix product is rounded depends on its size.

        Args:
            cases: Those that were diagnosed, few enough for the device's memory.
            diagnoses: What `diagnose` said of each.
            level: As for `explain`; what `full` adds goes case by case.
            methods: As for `explain`.
        Raises:
            InputError: Where any of the cases cannot be read.
        """
        from medmm.explain.case import explain_cases

        if any(id(case) not in self._views for case in cases):
            self._views = {id(view.case): view for view in self.reader.read_together(cases)}
        views = [self._views[id(case)] for case in cases]
        return explain_cases(self, views, diagnoses, level, methods or ExplanationMethods())

    def view(self, case: Case) -> CaseView:
        """Return the case as the model reads it; kept for the latest case, or those that were read together."""
        if id(case) not in self._views:
            self._views = {}
            self._views = {id(case): self.reader.read(case)}  # a view holds its case, so that its id stays its own
        return self._views[id(case)]

    def size_of(self, case: Case) -> float:
        """Return the share of one pass of the large networks that a case fills; 1 and more: it is looked at alone."""
        return self.reader.size_of(case)

    def read_together(self, cases: Sequence[Case]) -> None:
        """Let the large networks look at several cases in shared passes; `diagnose` and `explain` go on from there.

        Raises:
            InputError: Where any of the cases cannot be read; each can still be diagnosed alone.
        """
        self._views = {}
        self._views = {id(view.case): view for view in self.reader.read_together(cases)}
        for one in self.members:
            one.read_together(cases)

    @torch.no_grad()
    def answer(self, view: CaseView) -> ModelOutput:
        """Return the model's raw answers to a case that its reader read."""
        return self.model(collate([view.features], self.reader))

    def _chances(self, task: TaskSpec, output: ModelOutput, case: Case) -> np.ndarray:
        """Calibrated probabilities (L,) of this model, or of the mean over it and its members."""
        nothing = torch.zeros(1, len(task.classes))
        outputs = [output, *(one.answer(one.view(case)) for one in self.members)]
        logits = pooled_logits([one.logits.get(task.name, nothing).cpu() for one in outputs], task.kind)
        return probabilities(logits, task.kind, task.calibration.temperature)[0].double().numpy()

    def _check_members(self) -> None:
        asked = [(task.name, task.kind, [item.name for item in task.classes]) for task in self.model.labels.tasks]
        for one in self.members:
            if [
                (task.name, task.kind, [item.name for item in task.classes]) for task in one.model.labels.tasks
            ] != asked:
                raise UsageError(
                    "Expected members of an ensemble to answer the same questions (they differ).", code="model.mismatch"
                )

    def _answer(
        self, task: TaskSpec, values: np.ndarray, view: CaseView, outlier: OutOfDistribution | None
    ) -> TaskResult:
        calibration = task.calibration
        names, titles = [item.name for item in task.classes], [item.title for item in task.classes]
        decision = self._decide(task, names, titles, values)
        reason = self._no_ground(task, view) or (
            "This case is unlike the cases that the model was trained on." if outlier and outlier.is_flagged else ""
        )
        if reason:
            decision = Decision(decision.prediction_set, True, reason)
        return TaskResult(
            task=task.name,
            title=task.title,
            kind=task.kind,
            classes=tuple(item.label() for item in task.classes),
            probabilities=values,
            prediction=names[int(values.argmax())],
            prediction_set=decision.prediction_set,
            coverage=calibration.coverage,
            abstained=decision.abstained,
            abstain_reason=decision.reason,
            estimate=self._estimate(task, values, decision.prediction_set),
        )

    def _estimate(self, task: TaskSpec, values: np.ndarray, prediction_set: tuple[str, ...]) -> ValueEstimate | None:
        """The number or time that a task of intervals asks for."""
        if task.kind == "survival" and task.edges:
            return estimate_time(values, task.edges, task.unit)
        if task.kind == "regression":
            inside = [task.index(name) for name in prediction_set]
            return estimate_value(values, task.edges, task.unit, inside, task.calibration.coverage)
        return None

    def _decide(self, task: TaskSpec, names: list[str], titles: list[str], values: np.ndarray) -> Decision:
        calibration = task.calibration
        if task.kind == "multilabel":
            return decide_labels(names, values, calibration.thresholds)
        if task.kind == "survival":
            return Decision((), False, "")  # the answer is the curve; no set is claimed to cover the time
        decision = decide(
            names,
            titles,
            values,
            calibration.quantile,
            calibration.coverage,
            rule=calibration.rule,
            max_set_size=len(names) if task.kind == "regression" else calibration.max_set_size,  # an interval
        )
        if values.max() < calibration.min_confidence:
            reason = f"The model keeps silent below a probability of {calibration.min_confidence:.2f}."
            return Decision(decision.prediction_set, True, reason)
        return decision

    def _no_ground(self, task: TaskSpec, view: CaseView) -> str:
        """Why a task cannot be answered at all for this case, or empty."""
        summary = view.features.summary
        if summary is None:
            return "There is no volume to answer this from." if task.source == "location" else ""
        needs_region = task.source == "location" or self.spec.is_volume_required
        return "Nothing was found in the volume." if needs_region and not bool(summary.found[0]) else ""

    def _regions(self, view: CaseView) -> list[Region]:
        volume = self.model.config.volume
        if volume is None or view.seen is None or view.prepared is None:
            return []
        chances = view.seen.region_logits[0].sigmoid().float().cpu().numpy()
        return [self._region(item, chances[row], view) for row, item in enumerate(volume.regions)]

    def _region(self, spec: RegionSpec, chance: np.ndarray, view: CaseView) -> Region:
        grid = view.prepared.grid  # type: ignore[union-attr]  # only called for cases with a volume
        return Region(
            name=spec.name,
            title=spec.title,
            role=grid.role,
            mask=(grid.to_source(chance) > spec.threshold).astype(np.uint8),
            affine_ras=grid.affine_ras,
            peak_probability=float(chance.max()),
        )

    def _out_of_distribution(self, view: CaseView, output: ModelOutput) -> OutOfDistribution | None:
        scored = self._outlier_score(view, output)
        if scored is None:
            return None
        score, threshold = float(scored.score[0]), float(scored.threshold)
        if not np.isfinite(threshold):  # the model never saw what is usual
            return None
        return OutOfDistribution(score=score, threshold=threshold, is_flagged=score > threshold)

    def _outlier_score(self, view: CaseView, output: ModelOutput) -> "_OutlierScore | None":
        """By the energy of the answers where the model asks for it, else by the distance of what the volume shows."""
        model, summary, images = self.model, view.features.summary, view.features.images
        if model.config.outlier == "energy":
            return _OutlierScore(model.energy(list(output.logits.values())), model.energy.threshold)
        if images is not None:
            return _OutlierScore(model.ood(images.mean(dim=0, keepdim=True)), model.ood.threshold)
        if summary is not None and bool(summary.found[0]):
            return _OutlierScore(model.ood(summary.lesion), model.ood.threshold)
        return None

    def _identity(self) -> ModelIdentity:
        return ModelIdentity(
            name=self.spec.name,
            version=self.spec.version,
            weights_sha256=self.spec.weights_sha256,
            graph_hash=self.spec.graph_hash,
            device=self.device.type,
            precision=self.reader.precision,
        )

    def compile(self, backend: str = "inductor") -> None:
        """Let torch compile the large networks at their next use, in a minute or so; for many cases on a GPU."""
        for name in ("trunk", "image_network"):
            network = getattr(self.model, name, None)
            if network is not None:
                network.compile(dynamic=True, backend=backend)


def load_model(
    name: str,
    device: str = "auto",
    *,
    allow_other_graph: bool = False,
    precision: Precision = "float32",
    batch_mib: float | None = 0,
) -> Diagnoser:
    """Return a model ready to diagnose, by shipped name, local directory, or Hugging Face id.

    A directory may hold further model directories in `members/`: an ensemble.

    Args:
        name: `glioma-mri`, the path of a model directory, or `owner/name` of a snapshot in the local cache.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        allow_other_graph: Run although the knowledge graph is not the one the model was trained with.
        precision: Of the large networks: `bfloat16` halves their memory and time on a recent GPU.
        batch_mib: Memory of one pass that several cases share (`Diagnoser.read_together`), in MiB; 0: none is shared;
            None: as suits the device.
    Raises:
        UsageError: `model.*` for a bad directory, `kg.version` for another graph, `device.none` for a missing GPU.
    """
    place = choose_device(device)
    folder = find_model(name)
    loaded = load_checkpoint(folder)
    config = loaded.model.config
    graph, notes = _graph_for(config.graph.hash, allow_other_graph) if config.graph is not None else (None, ())
    text_encoder = _text_encoder(folder, config.text) if config.text is not None else None
    members = [
        load_model(str(path), device, allow_other_graph=allow_other_graph, precision=precision, batch_mib=batch_mib)
        for path in sorted((folder / MEMBERS).glob("*"))
        if path.is_dir()
    ]
    return Diagnoser(
        loaded,
        text_encoder=text_encoder,
        graph=graph,
        device=place,
        notes=notes,
        members=members,
        precision=precision,
        batch_mib=choose_batch_mib(place) if batch_mib is None else batch_mib,
    )


def find_model(name: str) -> Path:
    """Return the directory of a model, shipped or local.

    Raises:
        UsageError: `model.incomplete` where there is none, naming the shipped ones.
    """
    for folder in (Path(name), SHIPPED / name):
        if (folder / "config.json").is_file():
            return folder
    local = Path(name)
    if local.exists():
        return local  # load_checkpoint says which piece is missing
    downloaded = _from_hub_cache(name)
    if downloaded is not None:
        return downloaded
    raise UsageError(
        f"Expected a model directory or one of {', '.join(shipped_models()) or 'no shipped model'} (got {name!r}).",
        code="model.incomplete",
        remedy="For a Hugging Face id, download the snapshot beforehand: medmm does not use the network.",
    )


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def _from_hub_cache(name: str) -> Path | None:
    """Where the snapshot of a Hugging Face id lies on this machine, if it was downloaded before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if name.count("/") != 1:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _text_encoder(folder: Path, spec: TextSpec) -> TextEncoder | LstmTextEncoder:
    source = str(folder / OWN_TEXT) if spec.source == OWN_TEXT_SOURCE else spec.source
    if (Path(source) / LSTM_CONFIG).is_file():
        return LstmTextEncoder.load(Path(source))
    return TextEncoder(source, spec.window)


def _graph_for(expected_hash: str, allow_other: bool) -> tuple[KnowledgeGraph, tuple[Note, ...]]:
    import kg

    graph = kg.load_default()
    if graph.hash == expected_hash:
        return graph, ()
    sentence = (
        f"Expected the knowledge graph {expected_hash[:12]} that the model was trained with (found {graph.hash[:12]})."
    )
    if not allow_other:
        raise UsageError(
            sentence,
            code="kg.version",
            remedy="Install the source versions of constraints.txt, or allow another graph on purpose.",
        )
    return graph, (Note("kg.version", sentence),)
