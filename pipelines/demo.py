"""The offline demo: phantom patients, a small multimodal model trained on half of them, the other half diagnosed.

Phantoms prove that the parts work together and that explanations find what was planted. They say nothing about
patients.
"""

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from sklearn.model_selection import KFold

import kg
from medmm.cases import CasePlan, find_cases
from medmm.checkpoint import save_model
from medmm.config import (
    Calibration,
    ClassSpec,
    GraphSpec,
    Labels,
    ModelConfig,
    RegionSpec,
    TaskSpec,
    TextSpec,
    VolumeSpec,
)
from medmm.encoders.record import CategoricalField, NumericField
from medmm.encoders.text import MINILM, TextEncoder
from medmm.inputs import CaseFeatures, CaseReader, CaseView
from medmm.model import MultimodalModel
from medmm.preprocess import Preprocessing, prepare_volume, region_to_model_grid
from medmm.similar import TrainingCases, embed_training_cases
from medmm.synthetic import Cohort, write_cohort
from medmm.types import Case
from pipelines.statistics import accuracy, bootstrap
from pipelines.training.augment import Augmentation
from pipelines.training.what import WhatSettings, calibrate, fit_locations, predict_logits, train_what
from pipelines.training.where import WhereExample, WhereSettings, train_where

N_TRAINING, N_UNSEEN = 60, 24
WHERE = WhereSettings(
    widths=(8, 12, 16, 24, 32, 8),
    epochs=20,
    slices_per_case=5,
    augmentation=Augmentation(drop_sequence=(0.1, 0.1, 0.15)),
)
WHAT = WhatSettings(epochs=40, learning_rate=3e-3)
PREPROCESSING = Preprocessing(roles=("t1", "flair", "t1ce"), reference_order=("flair", "t1ce", "t1"), size_pixels=96)
DIAGNOSIS = TaskSpec(
    name="diagnosis",
    title="Diagnosis",
    kind="exclusive",
    calibration=Calibration(coverage=0.9),
    classes=(
        ClassSpec(name="glioblastoma", title="Glioblastoma", concept="ORPHA:360"),
        ClassSpec(name="meningioma", title="Meningioma", concept="ORPHA:2495"),
        ClassSpec(name="multiple_sclerosis", title="Multiple sclerosis", concept="RSD:d/multiple_sclerosis"),
    ),
)
SIDE = TaskSpec(
    name="side",
    title="Side",
    kind="exclusive",
    source="location",
    calibration=Calibration(coverage=0.9),
    classes=(ClassSpec(name="left", title="Left"), ClassSpec(name="right", title="Right")),
)
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthRow:
    """What was planted in one phantom. `mask` is on the grid of the patient's series."""

    diagnosis: str
    side: str
    mask: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """Where the trained model lies, and the patients it has not seen."""

    folder: Path
    unseen: Cohort


def prepare_demo(folder: Path, tell: Tell) -> DemoModel:
    """Write the two cohorts under `folder` and train the model on the first."""
    tell(f"Writing {N_TRAINING} phantom patients to learn from and {N_UNSEEN} to diagnose ...")
    training = write_cohort(folder / "training", N_TRAINING, seed=1)
    unseen = write_cohort(folder / "unseen", N_UNSEEN, seed=2)
    tell("Training: where (a U-Net over slices), then what (fusion of volume, report, record and graph) ...")
    model, metrics, known = train_demo_model(training)
    save_model(folder / "model", model, metrics=metrics, card=_card(metrics), training_cases=known)
    return DemoModel(folder=folder / "model", unseen=unseen)


def train_demo_model(
    cohort: Cohort,
) -> tuple[MultimodalModel, dict[str, dict[str, dict[str, float | int]]], TrainingCases | None]:
    """Return a model trained on a cohort, calibrated out of fold, its out-of-fold accuracy, and what it was shown."""
    graph, text_encoder = kg.load_default(), TextEncoder(MINILM)
    plans = find_cases(cohort.studies, reports=cohort.reports, records=cohort.records, roles=PREPROCESSING.roles).plans
    truth = read_truth(cohort)
    rows = [truth[_patient_of(plan)] for plan in plans]
    cases = [plan.read() for plan in plans]
    targets = {task.name: np.array([task.index(getattr(row, task.name)) for row in rows]) for task in (DIAGNOSIS, SIDE)}
    config = _config(graph, text_encoder)
    labels = Labels(tasks=(DIAGNOSIS, SIDE))
    model = MultimodalModel(config, labels)
    model.trunk = train_where([_example(case, row) for case, row in zip(cases, rows, strict=True)], WHERE).trunk
    reader = CaseReader(model.eval(), text_encoder, graph)
    views = [reader.read(case) for case in cases]
    logits = _out_of_fold(reader, views, targets)
    features = _fit(reader, views, targets)
    train_what(reader, features, targets, WHAT)
    model.labels = calibrate(labels, logits, targets)
    metrics = {
        name: {"accuracy_out_of_fold": bootstrap(accuracy, targets[name], values).to_dict()}
        for name, values in logits.items()
    }
    known = [{task.name: str(getattr(row, task.name)) for task in (DIAGNOSIS, SIDE)} for row in rows]
    return model, metrics, embed_training_cases(reader, features, known)


def read_truth(cohort: Cohort) -> dict[str, TruthRow]:
    """Return what was planted, by patient."""
    with cohort.truth.open(encoding="utf-8", newline="") as stream:
        return {
            row["patient_id"]: TruthRow(
                diagnosis=row["diagnosis"], side=row["side"], mask=cohort.truth.parent / row["mask"]
            )
            for row in csv.DictReader(stream)
        }


def count_right(cohort: Cohort, results: Path) -> list[str]:
    """Return lines that hold the results of a run against what was planted."""
    truth = read_truth(cohort)
    with (results / "id_map.csv").open(encoding="utf-8", newline="") as stream:
        patient_of = {row["id"]: row["patient_id"] for row in csv.DictReader(stream)}
    with (results / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = ["", f"Held against what was planted, {len(rows)} unseen phantoms:"]
    for task in (DIAGNOSIS, SIDE):
        planted = [getattr(truth[patient_of[row["case"]]], task.name) for row in rows]
        right = [row[task.name] == value for row, value in zip(rows, planted, strict=True)]
        said = [row[f"{task.name}.abstained"] == "false" for row in rows]
        wrong_aloud = sum(spoke and not hit for spoke, hit in zip(said, right, strict=True))
        lines.append(
            f"  {task.title}: {sum(right)} of {len(rows)} right; answered {sum(said)}, of these {wrong_aloud} wrong."
        )
    return lines


def _patient_of(plan: CasePlan) -> str:
    if plan.study is None:
        raise ValueError("Expected every phantom file to belong to a study.")
    return plan.study.patient_id


def _config(graph: kg.KnowledgeGraph, text_encoder: TextEncoder) -> ModelConfig:
    return ModelConfig(
        name="demo",
        version="0.1.0",
        width=32,
        volume=VolumeSpec(
            preprocessing=PREPROCESSING,
            widths=WHERE.widths,
            tokens=("descriptor", "features"),
            regions=(RegionSpec(name="lesion", title="Lesion"),),
            is_required=False,
        ),
        text=TextSpec(source=MINILM, width=text_encoder.width),
        record=(
            NumericField(name="age_years", mean=52.0, deviation=15.0, minimum=0, maximum=120),
            CategoricalField(name="sex", categories=("f", "m")),
        ),
        graph=GraphSpec(size=80, hash=graph.hash),
    )


def _example(case: Case, row: TruthRow) -> WhereExample:
    prepared = prepare_volume(case.volumes, PREPROCESSING)
    if prepared is None:
        raise ValueError("Expected every phantom to have a series.")
    mask = np.asarray(nibabel.as_closest_canonical(nibabel.load(row.mask)).dataobj)  # type: ignore[arg-type, attr-defined]  # a NIfTI image
    return WhereExample(
        case=case.case_id,
        array=prepared.array,
        present=prepared.present,
        regions=region_to_model_grid(mask, prepared.grid)[None],
    )


def _fit(reader: CaseReader, views: Sequence[CaseView], targets: Mapping[str, np.ndarray]) -> list[CaseFeatures]:
    """Fit the location heads and return the features with the graph's view of the places found."""
    fit_locations(reader.model, [view.features for view in views], targets)
    return [reader.consult_graph(view).features for view in views]


def _out_of_fold(
    reader: CaseReader, views: Sequence[CaseView], targets: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Logits of three folds' models on the cases that each did not train on; the trunk is shared."""
    logits = {task.name: np.zeros((len(views), len(task.classes))) for task in reader.model.labels.tasks}
    for train, test in KFold(3, shuffle=True, random_state=0).split(range(len(views))):
        model = MultimodalModel(reader.config, reader.model.labels)
        model.trunk = reader.model.trunk
        fold = CaseReader(model.eval(), reader.text_encoder, reader.graph)
        chosen = {name: values[train] for name, values in targets.items()}
        features = _fit(fold, [views[row] for row in train], chosen)
        train_what(fold, features, chosen, dataclasses.replace(WHAT, seed=1))
        unseen = [fold.consult_graph(views[row]).features for row in test]
        for name, values in predict_logits(fold, unseen).items():
            logits[name][test] = values
    return logits


def _card(metrics: Mapping[str, Mapping[str, Mapping[str, float | int]]]) -> str:
    lines = "\n".join(
        f"- {task}: out-of-fold accuracy {values['accuracy_out_of_fold']['value']:.2f} "
        f"(95% interval {values['accuracy_out_of_fold']['low']:.2f} to {values['accuracy_out_of_fold']['high']:.2f}, "
        f"{values['accuracy_out_of_fold']['n']} phantoms)"
        for task, values in metrics.items()
    )
    return f"""# demo

A model of phantoms. It knows nothing about patients.

## Data
{N_TRAINING} synthetic patients written by `medmm.synthetic`.

## Results
{lines}

## Licence
Apache-2.0, as the code.

## Limits
Not for any use with patients. Its only purpose is to show the way from a folder to a report.
"""
