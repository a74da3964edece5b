"""`medmm report`: the report of a finished case in other formats or another language, without the model."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import one_line, show_error, stdout


def report(
    cases: Annotated[
        list[Path], typer.Argument(help="case.json files, folders of cases, or the output folder of a run.")
    ],
    formats: Annotated[
        str, typer.Option(help="Out of html, json, txt, pdf, fhir, seg, pm, sc, epdf, sr; separated by commas.")
    ] = "html",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write to OUT/<case> and leave the case's own folder as it is.")
    ] = None,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
    studies: Annotated[
        Path | None,
        typer.Option(help="The folder that was diagnosed: full pictures, and what DICOM results refer to."),
    ] = None,
    include_report_text: Annotated[
        bool,
        typer.Option("--include-report-text", help="Show the words of the radiology report, if case.json has them."),
    ] = False,
    id_key: Annotated[Path | None, typer.Option(help="File with the key of the opaque case ids.")] = None,
) -> None:
    """Write reports of finished cases again, from case.json and the files beside it.

    No model is loaded. Without --studies, pictures are taken from the report.html that is there. The DICOM formats
    (seg masks, pm heatmaps, sc key slices, epdf the PDF, sr the structured report) belong to the patient's study and
    carry its identity; fhir does too where --studies is given; nothing else does.

    \b
    Examples:
      medmm report results/cases/case-1f.../case.json --lang zh
      medmm report results/ --formats pdf,txt --out printed/
      medmm report results/ --formats sr,seg --studies studies/

    Exit codes: 0 all written, 1 some could not be, 2 wrong use.
    """
    from dataclasses import replace

    from medmm.errors import InputError
    from pipelines.rebuild import Rebuild, case_files, check_rebuild, rebuild_report

    wanted = tuple(filter(None, (name.strip() for name in formats.split(","))))
    job = Rebuild(
        formats=wanted, lang=lang, include_report_text=include_report_text, out=out, studies=studies, id_key=id_key
    )
    check_rebuild(job)
    console, failed = stdout(), 0
    for file in case_files(cases):
        folder = out / file.resolve().parent.name if out is not None else None
        try:
            paths = rebuild_report(file, replace(job, out=folder))
        except InputError as error:
            show_error(error.message, error.remedy, error.code)
            failed += 1
            continue
        for path in paths.all():
            console.print(one_line(str(path)), soft_wrap=True)
    raise typer.Exit(1 if failed else 0)
