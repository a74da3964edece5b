"""Command line of the recipe: train the trunks, cross-validate, ship."""

import logging
from pathlib import Path
from typing import Annotated

import typer

import kg
from medmm.diagnose import SHIPPED
from pipelines.recipes.glioma_mri.card import site_table
from pipelines.recipes.glioma_mri.crossval import leave_sites_out
from pipelines.recipes.glioma_mri.data import N_FOLDS
from pipelines.recipes.glioma_mri.fusion_comparison import compare_fusions
from pipelines.recipes.glioma_mri.prepare import prepare as write_research_files
from pipelines.recipes.glioma_mri.ship import evaluate_and_ship, measure_sites
from pipelines.recipes.glioma_mri.spec import LABELS
from pipelines.recipes.glioma_mri.where import EVERYONE, read_trunk, train_fold
from pipelines.training.fusion_comparison import write_comparison

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
DataFolder = Annotated[Path, typer.Option(help="Folder with clinical.csv and volumes/.")]
WorkFolder = Annotated[Path, typer.Option(help="Where trunks and out-of-fold answers are kept.")]


@app.command()
def where(
    data: DataFolder,
    work: WorkFolder,
    fold: Annotated[
        list[str] | None,
        typer.Option(help="0 to 4, all, or site-CS and so on; repeat for several. Default: 0 to 4 and all."),
    ] = None,
) -> None:
    """Train the trunks: one without the patients of each fold, one on everyone; a quarter of an hour each on a CPU.

    Trunks of sites, where there is one of each, let `sites` and `ship` leave the sites out of the first step, too.
    """
    for name in fold or [*(str(index) for index in range(N_FOLDS)), EVERYONE]:
        train_fold(data, work, name)


@app.command()
def prepare(data: DataFolder, out: Annotated[Path, typer.Option(help="Folder for NIfTI files and cases.csv.")]) -> None:
    """Write NIfTI files and a manifest, as `medmm train` and `medmm evaluate` read them."""
    typer.echo(f"Wrote {write_research_files(data, out)}.")


@app.command()
def ship(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="The model directory to write.")] = SHIPPED / "glioma-mri",
) -> None:
    """Cross-validate fusion and heads on the trunks in WORK, fit on everyone, write the model directory."""
    evaluate_and_ship(data, work, out)
    typer.echo(f"Wrote {out}.")


@app.command()
def sites(data: DataFolder, work: WorkFolder) -> None:
    """Print how well patients are answered by models that saw nothing of their site, on the trunks of sites in WORK."""
    found = leave_sites_out(data, work, kg.load_default())
    typer.echo(site_table(measure_sites(found, LABELS)))


@app.command()
def fusions(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="Where figures and probabilities are written.")],
) -> None:
    """Compare every kind of fusion, each modality alone, and other graphs on identical folds; half an hour on a CPU."""
    result = compare_fusions(data, work, kg.load_default())
    write_comparison(result, out)
    typer.echo(f"Wrote {out / 'fusion_comparison.json'}.")


@app.command()
def objectives(
    data: DataFolder,
    work: WorkFolder,
    out: Annotated[Path, typer.Option(help="Where figures and probabilities are written.")],
) -> None:
    """Measure what contrastive learning, autoencoding, pseudo-labels and ensembles add; some minutes on a CPU."""
    from pipelines.recipes.glioma_mri.objectives import answer_by_objectives, write_answers

    typer.echo(write_answers(answer_by_objectives(data, work, kg.load_default()), out))


@app.command()
def synthesise(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Where figures are written.")],
    target: Annotated[list[str] | None, typer.Option(help="t1ce or flair; repeat for both, the default.")] = None,
    steps: Annotated[int, typer.Option(help="Of training, for each target.")] = 700,
    work: Annotated[
        Path | None, typer.Option(help="Where `where --fold 0` left its trunk: measures masks drawn from it, too.")
    ] = None,
) -> None:
    """Measure a missing sequence made by a conditional GAN against copies; a quarter of an hour on a CPU."""
    from pipelines.recipes.glioma_mri import synthesis

    settings = synthesis.SynthesisSettings(steps=steps)
    trunk = None if work is None else read_trunk(work, str(synthesis.TEST_FOLD))
    found = [synthesis.measure_synthesis(data, name, settings, trunk) for name in target or synthesis.TARGETS]
    synthesis.write_synthesis(found, out)
    for one in found:
        typer.echo(synthesis.to_markdown(one))


@app.command()
def explain(
    data: DataFolder,
    rows: Annotated[Path, typer.Option(help="File of JSON lines to add to; patients in it are not measured again.")],
    patients: Annotated[int, typer.Option(help="How many, in a fixed random order.")] = 25,
    max_slices: Annotated[int, typer.Option(help="Leave out volumes of more slices: they cost more.")] = 24,
    method: Annotated[
        list[str] | None, typer.Option(help="Volume method or baseline; repeat for several. Default: every one.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Repeat for several. Default: grade and lobe.")] = None,
    curves: Annotated[bool, typer.Option(help="Deletion and insertion: some six passes a map.")] = True,
    again: Annotated[bool, typer.Option(help="Shuffled weights and noise: three times the work of a method.")] = True,
) -> None:
    """Measure heatmaps of the shipped model against the masks, baselines and shuffled weights."""
    from medmm.explain.cohort import BASELINES, MapTests
    from medmm.explain.methods import VOLUME_METHODS
    from pipelines.recipes.glioma_mri.explain import Measurement, measure_patients

    what = Measurement(
        count=patients,
        methods=tuple(method or (*VOLUME_METHODS, *BASELINES)),
        tasks=tuple(task or ("grade", "lobe")),
        tests=MapTests(curves=curves, again=again),
        max_slices=max_slices,
    )
    measure_patients(data, rows, what)


@app.command()
def explain_table(rows: Annotated[list[Path], typer.Argument(help="Files that `explain` wrote.")]) -> None:
    """Print what `explain` measured as Markdown, with intervals over patients."""
    from pipelines.recipes.glioma_mri.explain import read_rows, table

    found = read_rows(rows)
    for name in dict.fromkeys(str(row["task"]) for row in found):
        typer.echo(f"### {name}\n\n{table(found, name)}\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()
