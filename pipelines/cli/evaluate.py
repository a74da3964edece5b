"""`medmm evaluate`: options to an `EvaluationJob`, metrics to the screen."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[str, typer.Option("--model", help="Name of a shipped model, or a model directory.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="CSV with a row a case and columns label.<task>.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if missing.")],
    split: Annotated[
        str | None, typer.Option(help="Rows of this split; `test` where there is one, else every row.")
    ] = None,
    against: Annotated[
        str, typer.Option(help="Another model, or the folder of an earlier evaluation: paired tests between the two.")
    ] = "",
    by: Annotated[
        list[str] | None,
        typer.Option(help="A further record column to make subgroups of; age, sex, site, scanner are automatic."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of patients.")] = 2000,
    controls: Annotated[
        bool, typer.Option(help="Answer every case also from fewer modalities, without and with a shuffled graph.")
    ] = True,
    pictures: Annotated[bool, typer.Option(help="Show a slice of each wrongly answered case in the report.")] = True,
    explanations: Annotated[
        bool, typer.Option("--explanations", help="Test the heatmaps of every case, too; slow.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    allow_other_graph: Annotated[
        bool, typer.Option("--allow-other-graph", help="Run although the knowledge graph is not the model's.")
    ] = False,
    allow_training_cases: Annotated[
        bool, typer.Option("--allow-training-cases", help="Go on although the model was trained on some of the cases.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier evaluation in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Measure a model on labelled cases, as a reviewer would ask for it.

    The manifest is a CSV: case, patient, volumes (role=path;role=path), report or report_text, split, record.<field>,
    label.<task>, mask. Paths are relative to it. Patients may have several cases; intervals are over patients.

    \b
    Writes into --out:
      predictions.csv   a row for each case and task, a column for each class
      metrics.json      {task: {metric: {value, low, high, n}}}, 95% intervals
      details.json      subgroups, controls, paired tests
      failures.csv      cases that could not be used, and why
      report.html       all of it with plots, failures, methods paragraph, checklist
    \b
    Examples:
      medmm evaluate --model glioma-mri --manifest cases.csv --out evaluation/
      medmm evaluate --model new/ --manifest cases.csv --out new-eval/ --against old-eval/
      medmm evaluate --model new/ --manifest cases.csv --out by/ --by field_strength_t

    Exit codes: 0 all cases answered, 1 some refused, 2 nothing started.
    """
    from pipelines.cli.console import RunView, stdout
    from pipelines.cli.tables import show_table
    from pipelines.evaluation.page import show_estimate
    from pipelines.evaluation.run import EvaluationJob
    from pipelines.evaluation.run import evaluate as run

    job = EvaluationJob(
        model=model,
        manifest=manifest,
        output=out,
        split=split,
        against=against,
        by=tuple(by or ()),
        device=device,
        n_resamples=resamples,
        has_controls=controls,
        has_pictures=pictures,
        has_explanations=explanations,
        may_overwrite=overwrite,
        allow_other_graph=allow_other_graph,
        allow_training_cases=allow_training_cases,
    )
    with RunView(is_quiet=quiet) as view:
        result = run(job, view)
    if not quiet:
        rows = [
            (name, metric, show_estimate(estimate), str(estimate.n))
            for name, metrics in result.metrics.items()
            for metric, estimate in metrics.items()
        ]
        show_table(("task", "metric", "value (95% interval)", "patients"), rows, whole=("task",), right=("patients",))
        stdout().print(f"{result.n_cases} cases answered, {result.n_refused} refused. Open {out / 'report.html'}.")
    raise typer.Exit(result.exit_code)
