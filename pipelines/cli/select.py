"""`medmm select`: which unlabelled cases to label next."""

import csv
import io
from pathlib import Path
from typing import Annotated

import typer


def select(
    model: Annotated[str, typer.Option("--model", help="Name of a shipped model, or a model directory.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="CSV of the cases, labelled or not.")],
    out: Annotated[Path, typer.Option("--out", help="The CSV to write: rank, case, uncertainty, distance.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many cases to name.")] = 20,
    task: Annotated[
        list[str] | None, typer.Option(help="Only for this task; may be repeated. Default: every task of the model.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Rank unlabelled cases by how much a label would teach: unsure, and unlike what is labelled or ranked before.

    Cases whose label.<task> columns are filled count as labelled; the others are ranked.

    \b
    Example:
      medmm select --model my-model/ --manifest pool.csv --count 30 --out next.csv
    """
    from medmm.diagnose import load_model
    from medmm.errors import UsageError
    from medmm.report.files import write_atomic
    from medmm.report.table import csv_cell
    from pipelines.cli.console import RunView, stdout
    from pipelines.manifest import read_manifest
    from pipelines.selection import look_at_pool, rank_cases

    rows = read_manifest(manifest).rows
    diagnoser = load_model(model, device=device)
    known = [item.name for item in diagnoser.model.labels.tasks]
    unknown = sorted(set(task or ()) - set(known))
    if unknown:
        raise UsageError(f"The model has no task {unknown[0]!r}; it has {', '.join(known)}.", code="config.key")
    with RunView(is_quiet=quiet) as view:
        pool = look_at_pool(diagnoser, rows, task or known, view)
    choices = rank_cases(pool, count)
    if not choices:
        raise UsageError("There is no unlabelled case to choose from.", code="config.table")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["rank", "case", "uncertainty", "distance"])
    for choice in choices:
        cells = (choice.rank, choice.case, round(choice.uncertainty, 4), round(choice.distance, 4))
        writer.writerow([csv_cell(cell) for cell in cells])
    write_atomic(out, buffer.getvalue().encode("utf-8", "replace"))
    if not quiet:
        stdout().print(f"{len(choices)} of {int((~pool.is_labelled).sum())} unlabelled cases ranked in {out}.")
