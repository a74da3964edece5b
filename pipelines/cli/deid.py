"""`medmm deid`: options to a `DeidJob`, the end to an exit code."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import one_line, stderr, stdout


def deid(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files; any layout, any file names.")],
    out: Annotated[Path, typer.Argument(help="Folder for the copies; made if missing, empty.")],
    shift_dates: Annotated[
        bool, typer.Option("--shift-dates", help="Keep dates, moved back by the same secret days for all of a patient.")
    ] = False,
    clean_descriptors: Annotated[
        bool, typer.Option("--clean-descriptors", help="Keep descriptions, reduced to words of an allow-list.")
    ] = False,
    keep_device: Annotated[
        bool, typer.Option("--keep-device", help="Keep station names, serial numbers and device ids.")
    ] = False,
    keep_characteristics: Annotated[
        bool, typer.Option("--keep-characteristics", help="Keep sex, age (at most 90 years), size and weight.")
    ] = False,
    clean_content: Annotated[
        bool, typer.Option("--clean-content", help="Write structured reports too, their text scrubbed.")
    ] = False,
    masks: Annotated[
        Path | None, typer.Option(help="CSV of image regions to blank where text is burned into the pixels.")
    ] = None,
    reports: Annotated[
        Path | None, typer.Option(help="Folder of <PatientID or StudyUID>.txt to be scrubbed and copied too.")
    ] = None,
    id_key: Annotated[
        Path | None, typer.Option(help="File with the key of the pseudonyms; your own by default. Keep it secret.")
    ] = None,
    id_map: Annotated[
        Path | None, typer.Option(help="Write who is who to this file (mode 0600), outside the output folder.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that read and clean files.")] = 2,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Go on in a folder that this command wrote; same key, same names.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Write de-identified copies of DICOM files, after DICOM PS3.15 Annex E.

    Basic profile plus the options switched on. Names, ids, dates and UIDs are replaced by keyed ones that stay
    consistent between files; private attributes, overlays and free text that is not known to be safe are removed.
    Images that may carry burned-in text are refused unless --masks says what to blank. What was done stands in each
    file, (0012,0063) and (0012,0064), and in deid.json; what was refused in failures.csv.

    \b
    Examples:
      medmm deid studies/ shared/
      medmm deid studies/ shared/ --shift-dates --clean-descriptors --keep-characteristics
      medmm deid studies/ shared/ --reports reports/ --clean-content --id-map private/who.csv

    Exit codes: 0 all written, 1 some refused, 2 nothing started, 3 stopped (disk full), 130 Ctrl-C.
    """
    from pipelines.deidentify import DeidJob, Options, deidentify_folder

    job = DeidJob(
        folder=folder,
        output=out,
        options=Options(
            shift_dates=shift_dates,
            clean_descriptors=clean_descriptors,
            keep_device=keep_device,
            keep_characteristics=keep_characteristics,
            clean_content=clean_content,
            masks=masks,
        ),
        reports=reports,
        id_key=id_key,
        id_map=id_map,
        workers=workers,
        may_overwrite=overwrite,
    )
    console = stderr()

    def tell(done: int) -> None:
        if not quiet and done % 500 == 0:
            console.print(f"{done} files")

    summary = deidentify_folder(job, tell)
    if not quiet:
        results = stdout()
        results.print(f"{summary.written} files written, {sum(summary.refused.values())} refused.", soft_wrap=True)
        for code, count in summary.refused.items():
            results.print(f"  {count} x {code}")
        for reason, count in summary.skipped.items():
            results.print(f"  {count} left out: {one_line(reason)}", soft_wrap=True)
        if summary.heads:
            results.print(
                f"{summary.heads} images are of the head: a face can be rendered from them, and nothing here removes "
                "it.",
                soft_wrap=True,
            )
    raise typer.Exit(summary.exit_code)
