"""Command line of the recipe: prepare, train, predict, evaluate, cross-validate."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from medmm.errors import MedmmError
from pipelines.recipes.radiology_cases.cases import (
    CaseInput,
    CaseTarget,
    read_diagnoses,
    read_inputs,
    read_targets,
)

if TYPE_CHECKING:
    from pipelines.recipes.radiology_cases.evaluate import Measured
    from pipelines.recipes.radiology_cases.features import FeatureReader, Features
    from pipelines.recipes.radiology_cases.model import Answers

app = typer.Typer(
    help="""Teaching cases with pictures and text, after MedPix 2.0: location (T1), super-class (T2), diagnosis (T3),
    pictures and texts that belong together (T4), modality and plane (T5). Research use only.

    A data folder holds cases_<split>.jsonl, images/ and candidates.csv; docs/radiology-cases.md says which fields are
    read. Start with `train`, then `predict` and `evaluate`; `prepare` only makes the later steps start faster.""",
    no_args_is_help=True,
    add_completion=False,
)
DataFolder = Annotated[
    Path,
    typer.Option(help="Folder with cases_<split>.jsonl, images/ and candidates.csv."),
]
WorkFolder = Annotated[Path, typer.Option(help="Where features are kept, so that they are computed once.")]
ModelFolder = Annotated[Path, typer.Option(help="The model directory.")]
SPLITS, LEARNED_FROM, FULL = ["train", "dev"], ["train"], ["full"]
SHARES = [0.25, 0.5, 1.0]
MODALITIES_OUT = ["full", "no_text", "no_pictures", "no_record", "no_graph"]
Splits = Annotated[list[str], typer.Option(help="Names of splits; repeat for several.")]


@app.command()
def prepare(data: DataFolder, work: WorkFolder, split: Splits = SPLITS) -> None:
    """Compute the features of splits: 0.1 s a picture and 0.1 s a case on one core. No label is read."""
    for name in split:
        _features(data, name, work)
        typer.echo(f"Features of {name} are in {work}.")


@app.command()
def train(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
    split: Annotated[list[str], typer.Option(help="What to learn from; repeat for several.")] = LEARNED_FROM,
) -> None:
    """Fit the model on a split, or several, and write it: about ten minutes on one core, features included."""
    from pipelines.recipes.radiology_cases.features import joined
    from pipelines.recipes.radiology_cases.labels import labels_of
    from pipelines.recipes.radiology_cases.model import fit_model
    from pipelines.recipes.radiology_cases.storage import save

    reader = _reader(data, work)
    features = joined([reader.read(read_inputs(data, name), data / "images") for name in split])
    labels = labels_of([case for name in split for case in read_targets(data, name)], reader.diagnoses)
    save(out, fit_model(features, labels, reader.diagnoses, reader.names), reader.graph.hash)
    typer.echo(f"Wrote {out}.")


@app.command()
def predict(
    data: DataFolder,
    model: ModelFolder,
    out: Annotated[
        Path,
        typer.Option(help="Folder for the answers, one CSV file a task and setting."),
    ],
    split: Annotated[str, typer.Option(help="The split to answer; its labels may be missing.")] = "dev",
    work: Annotated[Path | None, typer.Option(help="Where features are kept; nowhere by default.")] = None,
) -> None:
    """Answer T1 to T5 for every case of a split.

    Settings in file names: h history, e exam, f findings, images. T1_image looks at one image alone.
    """
    from pipelines.recipes.radiology_cases.model import answer
    from pipelines.recipes.radiology_cases.predict import write_answers
    from pipelines.recipes.radiology_cases.storage import load

    reader, features = _features(data, split, work)
    loaded = load(model, reader.graph.hash, reader.diagnoses)
    written = write_answers(out, loaded.diagnoses, features, answer(loaded, features))
    typer.echo(f"Wrote {len(written)} files to {out}.")


@app.command()
def evaluate(
    data: DataFolder,
    answers: Annotated[
        Path,
        typer.Option(help="Folder of answers, as `predict` writes them; any of the files."),
    ],
    split: Annotated[str, typer.Option(help="The split that was answered.")] = "dev",
    seen: Annotated[
        list[str],
        typer.Option(help="Splits whose diagnoses count as seen in T3; repeat for several."),
    ] = LEARNED_FROM,
) -> None:
    """Measure answers against the labels, with 95 % bootstrap intervals over cases; writes metrics.json beside them."""
    from pipelines.recipes.radiology_cases.evaluate import evaluate as measure

    known = _diagnoses_of([case for name in seen for case in read_targets(data, name)])
    measured = measure(answers, read_inputs(data, split), read_targets(data, split), known)
    _report(measured, answers)


Ablations = Annotated[
    list[str], typer.Option(help="full, no_text, no_pictures, no_record, no_graph, shuffled_graph; repeat for several.")
]


@app.command()
def ablate(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="Folder for the answers, one folder an ablation.")],
    split: Annotated[str, typer.Option(help="The split to learn from.")] = "train",
    held_out: Annotated[str, typer.Option(help="The split to answer.")] = "dev",
    ablation: Ablations = MODALITIES_OUT,
) -> None:
    """Leave out one modality at a time: fit on one split, answer another, and state what is lost."""
    from pipelines.recipes.radiology_cases.crossval import answer_held_out
    from pipelines.recipes.radiology_cases.labels import labels_of

    reader, own = _ablated_features(data, work, [split, held_out], ablation)
    learned, asked = read_targets(data, split), read_targets(data, held_out)
    labels, is_held_out = labels_of([*learned, *asked], reader.diagnoses), _are_last(len(learned), len(asked))
    found = answer_held_out(own, labels, is_held_out, reader.diagnoses, reader.names)
    features = next(iter(own.values())).only(is_held_out)
    _write_and_compare(out, reader, features, found, asked, _diagnoses_of(learned))


@app.command()
def curve(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="Folder for the answers, one folder a share.")],
    split: Annotated[str, typer.Option(help="The split to learn from.")] = "train",
    held_out: Annotated[str, typer.Option(help="The split to answer.")] = "dev",
    share: Annotated[list[float], typer.Option(min=0.01, max=1, help="Of the cases; repeat for several.")] = SHARES,
) -> None:
    """Learn from a share of the cases at a time, and measure the answers to another split."""
    from pipelines.recipes.radiology_cases.crossval import learning_curve
    from pipelines.recipes.radiology_cases.labels import labels_of

    reader, own = _ablated_features(data, work, [split, held_out], FULL)
    learned, asked = read_targets(data, split), read_targets(data, held_out)
    labels, is_held_out = labels_of([*learned, *asked], reader.diagnoses), _are_last(len(learned), len(asked))
    found = learning_curve(own["full"], labels, is_held_out, reader.diagnoses, reader.names, share)
    named = {f"share_{one:g}": answered for one, answered in found.items()}
    _write_and_compare(out, reader, own["full"].only(is_held_out), named, asked, _diagnoses_of(learned))


@app.command()
def crossval(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="Folder for the answers, one folder an ablation.")],
    split: Splits = SPLITS,
    ablation: Ablations = FULL,
) -> None:
    """Answer every case by a model that never saw it (5-fold), with ablations, and measure the answers."""
    from pipelines.recipes.radiology_cases.crossval import cross_validate
    from pipelines.recipes.radiology_cases.labels import labels_of

    reader, own = _ablated_features(data, work, split, ablation)
    targets = [case for name in split for case in read_targets(data, name)]
    features = next(iter(own.values()))
    labels = labels_of(targets, reader.diagnoses)
    answers = cross_validate(features, labels, reader.diagnoses, reader.names, own)
    _write_and_compare(out, reader, features, answers, targets, seen_elsewhere(targets))


@app.command()
def model(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="The model directory to write, for `medmm diagnose --model`.")],
    split: Annotated[list[str], typer.Option(help="What to learn from; repeat for several.")] = LEARNED_FROM,
) -> None:
    """Train the package's own model on the cases: five folds for figures and calibration, then every case.

    Ten minutes on one core, features included.
    """
    import kg
    from pipelines.recipes.radiology_cases.multimodal.fitting import train_model

    train_model(data, work, out, split, kg.load_default())
    typer.echo(f"Wrote {out}.")


@app.command()
def model_predict(
    data: DataFolder,
    work: WorkFolder,
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="Folder for the answers, files as `predict` writes them.")],
    split: Annotated[str, typer.Option(help="The split to answer; its labels may be missing.")] = "dev",
    against: Annotated[
        Path | None, typer.Option(help="Other answers to the same split: state by how much these are better.")
    ] = None,
) -> None:
    """Answer T1 to T3 for every case of a split by a model that `model` wrote; `evaluate` measures the answers."""
    from medmm.diagnose import load_model
    from pipelines.recipes.radiology_cases.evaluate import compare
    from pipelines.recipes.radiology_cases.multimodal.answering import write_model_answers
    from pipelines.recipes.radiology_cases.multimodal.reading import read_features

    diagnoser = load_model(str(model), device="cpu")
    cases, graph = read_inputs(data, split), diagnoser.reader.graph
    if graph is None:
        raise typer.BadParameter("Expected a model that `model` wrote (this one reads no graph).")
    features = read_features(cases, data / "images", diagnoser.model.labels, graph, work)
    written = write_model_answers(diagnoser, features, [case.id for case in cases], out)
    typer.echo(f"Wrote {len(written)} files to {out}.")
    if against is not None:
        _show(compare(out, against, cases, read_targets(data, split), frozenset()))


@app.command()
def fusions(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="Where figures and probabilities are written.")],
    split: Splits = SPLITS,
) -> None:
    """Compare every kind of fusion, each modality alone, and other graphs on five identical folds."""
    import kg
    from pipelines.recipes.radiology_cases.multimodal.comparing import compare_fusions
    from pipelines.training.fusion_comparison import write_comparison

    write_comparison(compare_fusions(data, work, split, kg.load_default()), out)
    typer.echo(f"Wrote {out / 'fusion_comparison.json'}.")


@app.command()
def explain(
    data: DataFolder,
    model: ModelFolder,
    rows: Annotated[Path, typer.Option(help="File of JSON lines to add to; cases in it are not measured again.")],
    split: Annotated[str, typer.Option(help="The split whose cases are explained.")] = "dev",
    cases: Annotated[int, typer.Option(help="How many, in a fixed random order.")] = 67,
) -> None:
    """Test the explanations of a model that `model` wrote: words and paths against random ones, shares; 5 s a case."""
    from medmm.diagnose import load_model
    from pipelines.recipes.radiology_cases.multimodal.explaining import measure_cases, read_rows, table

    measure_cases(load_model(str(model), device="cpu"), read_inputs(data, split), data / "images", rows, cases)
    typer.echo(table(read_rows(rows)))


def _ablated_features(
    data: Path, work: Path, splits: list[str], ablations: list[str]
) -> "tuple[FeatureReader, dict[str, Features]]":
    """What each ablation reads of all cases of the splits, in their order."""
    from kg.controls import shuffled_graph
    from pipelines.recipes.radiology_cases.crossval import ABLATIONS
    from pipelines.recipes.radiology_cases.features import FeatureReader, joined

    unknown = sorted(set(ablations) - set(ABLATIONS))
    if unknown or not ablations:
        raise typer.BadParameter(f"Expected ablations out of {', '.join(ABLATIONS)} (got {', '.join(unknown)}).")
    parts = [read_inputs(data, name) for name in splits]
    reader = _reader(data, work)
    own = dict.fromkeys(ablations, joined([reader.read(cases, data / "images") for cases in parts]))
    if "shuffled_graph" in own:
        other = FeatureReader(reader.diagnoses, shuffled_graph(reader.graph), work)
        own["shuffled_graph"] = joined([other.read(cases, data / "images") for cases in parts])
    return reader, own


def _are_last(n_learned: int, n_asked: int) -> np.ndarray:
    """Which of the cases of two splits, one after the other, are of the second (N,)."""
    return np.arange(n_learned + n_asked) >= n_learned


def _diagnoses_of(cases: Sequence[CaseTarget]) -> frozenset[str]:
    return frozenset(case.diagnosis for case in cases) - {""}


def _write_and_compare(
    out: Path,
    reader: "FeatureReader",
    features: "Features",
    answers: "dict[str, Answers]",
    targets: list[CaseTarget],
    seen: frozenset[str],
) -> None:
    from pipelines.recipes.radiology_cases.evaluate import compare
    from pipelines.recipes.radiology_cases.evaluate import evaluate as measure
    from pipelines.recipes.radiology_cases.predict import write_answers

    for name, answered in answers.items():
        write_answers(out / name, reader.diagnoses, features, answered)
        typer.echo(name)
        _report(measure(out / name, features.cases, targets, seen), out / name)
    for name in answers:
        if name != "full" and "full" in answers:
            typer.echo(f"full less {name}")
            _show(compare(out / "full", out / name, features.cases, targets, seen))


def seen_elsewhere(targets: list[CaseTarget]) -> frozenset[str]:
    """Diagnoses that more than one case has: in cross-validation most of them are seen in training."""
    counts = Counter(case.diagnosis for case in targets if case.diagnosis)
    return frozenset(name for name, count in counts.items() if count > 1)


def _reader(data: Path, work: Path | None) -> "FeatureReader":
    import kg
    from pipelines.recipes.radiology_cases.features import FeatureReader

    return FeatureReader(read_diagnoses(data), kg.load_default(), work)


def _features(data: Path, split: str, work: Path | None) -> "tuple[FeatureReader, Features]":
    cases: list[CaseInput] = read_inputs(data, split)
    reader = _reader(data, work)
    return reader, reader.read(cases, data / "images")


def _report(measured: "list[Measured]", folder: Path) -> None:
    rows = [one.to_dict() for one in measured]
    (folder / "metrics.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    _show(measured)


def _show(measured: "list[Measured]") -> None:
    table = Table(box=None)
    for title in ("file", "cases", "metric", "value", "95 % CI", "n"):
        table.add_column(title, no_wrap=True)
    for one in measured:
        found = one.estimate
        interval = f"{found.low:.3f} to {found.high:.3f}"
        table.add_row(one.file, one.subset, one.metric, f"{found.value:.3f}", interval, str(found.n))
    Console(width=100).print(table)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app(standalone_mode=False)
    except MedmmError as error:
        Console(stderr=True).print(str(error), markup=False)
        raise SystemExit(2) from error
