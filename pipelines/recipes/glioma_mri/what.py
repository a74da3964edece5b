"""The second step of glioma-mri: what a trunk that `where` has left sees of the patients, and fitting on it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kg import KnowledgeGraph
from medmm.config import ModelConfig
from medmm.encoders.slice_unet import TrunkOutput
from medmm.encoders.volume import VolumeSummary
from medmm.inputs import CaseReader, CaseView
from medmm.model import MultimodalModel
from medmm.similar import TrainingCases, embed_training_cases
from medmm.types import Case, Record
from pipelines.recipes.glioma_mri.data import Patient, read_patients, read_volumes
from pipelines.recipes.glioma_mri.spec import LABELS, build_config
from pipelines.recipes.glioma_mri.where import EVERYONE, trunk_file
from pipelines.training.what import UNKNOWN, WhatSettings, fit_locations, train_what

SETTINGS = WhatSettings(epochs=40, learning_rate=3e-3, weight_decay=0.3)


def targets_of(patients: Sequence[Patient]) -> dict[str, np.ndarray]:
    """Return class indices (N,) by task, -1 where the table has none.

    The side is taken from the reference mask, because two labels of the table contradict it (CS_6188, HT_8106).
    """
    columns: dict[str, list[str | None]] = {
        "side": [*map(side_of_mask, patients)],
        "lobe": [patient.lobe for patient in patients],
        "grade": [patient.grade for patient in patients],
        "histology": [patient.histology for patient in patients],
        "coc2": [patient.coc2 for patient in patients],
    }
    names = {task.name: [label.name for label in task.classes] for task in LABELS.tasks}
    return {
        task: np.array([names[task].index(value) if value in names[task] else UNKNOWN for value in values])
        for task, values in columns.items()
    }


def side_of_mask(patient: Patient) -> str:
    """The side on which most of the reference mask lies."""
    _, mask = read_volumes(patient)
    profile = mask.sum(axis=(1, 2)).astype(float)
    centre = float((profile * np.arange(len(profile))).sum() / profile.sum())
    return "right" if centre > (len(profile) - 1) / 2 else "left"


def read_case(patient: Patient) -> Case:
    """Return a patient as a diagnosis gets it."""
    volumes, _ = read_volumes(patient)
    values: dict[str, float | str] = {}
    if patient.age is not None:
        values["age_years"] = patient.age
    if patient.sex is not None:
        values["sex"] = patient.sex[0].upper()  # as DICOM has it
    return Case(case_id=patient.patient, volumes=volumes, record=Record(values=values))


def build_reader(config: ModelConfig, graph: KnowledgeGraph | None, trunk: Path) -> CaseReader:
    """Return a fresh model with a trained trunk, behind its frozen front."""
    model = MultimodalModel(config, LABELS)
    model.trunk.load_state_dict(load_file(trunk))
    return CaseReader(model.eval(), None, graph)


def read_views(work: Path, trunk: str, patients: Sequence[Patient], graph: KnowledgeGraph) -> list[CaseView]:
    """Return the patients as the trunk of that name sees them, without pixels.

    Looking takes minutes, so what was seen is kept in `seen-<trunk>.safetensors` for as long as the trunk's file is the
    same; delete it after a change of how volumes are prepared or pooled.
    """
    kept = work / f"seen-{trunk}.safetensors"
    digest = hashlib.sha256(trunk_file(work, trunk).read_bytes()).hexdigest()
    reader = build_reader(build_config(graph), graph, trunk_file(work, trunk))
    if not kept.is_file() or _digest_in(kept) != digest:
        seen: dict[str, torch.Tensor] = {}
        for patient in patients:
            view = without_pixels(reader.read(read_case(patient)))
            seen |= {f"{patient.patient}/{name}": value for name, value in _tensors(view).items()}
        save_file(seen, kept, metadata={"trunk": digest})
    seen = load_file(kept)
    return [_with_seen(reader, read_case(patient), seen) for patient in patients]


def without_pixels(view: CaseView) -> CaseView:
    """Keep what the graph needs, the peak (1, R, 1, 1, 1) of each region; the features of 78 patients fill memory."""
    seen = view.seen and TrunkOutput(
        region_logits=view.seen.region_logits.amax(dim=(2, 3, 4), keepdim=True),
        features=view.seen.features[..., :0, :0].clone(),
    )
    return replace(view, prepared=None, seen=seen, case=replace(view.case, volumes={}))


def fit(
    reader: CaseReader, views: Sequence[CaseView], targets: dict[str, np.ndarray], settings: WhatSettings
) -> list[CaseView]:
    """Fit location heads, let the graph see the places found, and train the rest on the given cases."""
    fit_locations(reader.model, [view.features for view in views], targets)
    consulted = [reader.consult_graph(view) for view in views]
    train_what(reader, [view.features for view in consulted], targets, settings)
    return consulted


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """A model, and what it makes of the cases that it was fitted on."""

    model: MultimodalModel
    training_cases: TrainingCases | None


def fit_everyone(data: Path, work: Path, graph: KnowledgeGraph, settings: WhatSettings = SETTINGS) -> FittedModel:
    """Return the model fitted on all patients, from the trunk that left nobody out."""
    patients = read_patients(data)
    reader = build_reader(build_config(graph), graph, trunk_file(work, EVERYONE))
    targets = targets_of(patients)
    consulted = fit(reader, read_views(work, EVERYONE, patients, graph), targets, settings)
    known = [
        {
            task.name: task.classes[int(targets[task.name][row])].name
            for task in LABELS.tasks
            if targets[task.name][row] != UNKNOWN
        }
        for row in range(len(patients))
    ]
    embedded = embed_training_cases(reader, [view.features for view in consulted], known)
    return FittedModel(model=reader.model, training_cases=embedded)


def summary_of(view: CaseView) -> VolumeSummary:
    """What was pooled of the patient's volume."""
    if view.features.summary is None:
        raise ValueError("Expected every patient of this set to have a sequence.")
    return view.features.summary


def _tensors(view: CaseView) -> dict[str, torch.Tensor]:
    summary = summary_of(view)
    found = {name: getattr(summary, name).contiguous() for name in VolumeSummary.__dataclass_fields__}
    return found | ({} if view.seen is None else {"peak": view.seen.region_logits.contiguous()})


def _with_seen(reader: CaseReader, case: Case, seen: dict[str, torch.Tensor]) -> CaseView:
    view = reader.read(replace(case, volumes={}))
    summary = VolumeSummary(*(seen[f"{case.case_id}/{name}"] for name in VolumeSummary.__dataclass_fields__))
    peak = TrunkOutput(region_logits=seen[f"{case.case_id}/peak"], features=torch.zeros(1, 0, 1, 1, 1))
    return reader.consult_graph(replace(view, seen=peak, features=replace(view.features, summary=summary)))


def _digest_in(kept: Path) -> str:
    with safe_open(kept, framework="pt") as stored:
        return str((stored.metadata() or {}).get("trunk", ""))
