"""`medmm check`: what a folder holds, before anything is diagnosed."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import one_line, stdout
from pipelines.cli.dicom import list_series
from pipelines.cli.tables import show_table


def check(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM studies.")],
    reports: Annotated[Path | None, typer.Option(help="Reports, as for `medmm diagnose`.")] = None,
    records: Annotated[Path | None, typer.Option(help="Records, as for `medmm diagnose`.")] = None,
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Do not decode pixels: faster, finds less.")
    ] = False,
    series: Annotated[
        bool, typer.Option("--series", help="List every series and volume, and which files are not read, instead.")
    ] = False,
    id_key: Annotated[Path | None, typer.Option(help="File with the key of the opaque case ids.")] = None,
) -> None:
    """List the cases of a folder: the sequences found, report and record, and what would be refused and why.

    Needs no model and writes nothing.

    \b
    Example:
      medmm check studies/ --reports reports/ --records patients.csv
      medmm check studies/ --series

    Exit codes: 0 all cases can be read, 1 some cannot, 2 wrong use.
    """
    if series:
        list_series(folder, pixels=not headers_only)

    from medmm.cases import find_cases
    from medmm.identity import load_key
    from pipelines.check import check_case

    cases = find_cases(folder, reports=reports, records=records, id_key=load_key(id_key))
    console, rows, refused = stdout(), [], 0
    for plan in cases.plans:
        found = check_case(plan, decode=not headers_only)
        refused += found.code != ""
        rows.append((plan.case_id, found.sequences, found.report, found.record, found.finding))
    show_table(("case", "sequences", "report", "record", "finding"), rows, whole=("case",))
    console.print(f"{len(cases.plans)} cases, {refused} would be refused.")
    skipped = Counter(item.code or item.reason for item in cases.skipped)
    if skipped:
        console.print("Files that are no input:", *(f"\n  {n} x {one_line(kind)}" for kind, n in skipped.most_common()))
    if cases.unmatched_reports:
        console.print(f"{cases.unmatched_reports} reports belong to no study found here.")
    raise typer.Exit(1 if refused else 0)
