"""DICOM on the command line: what a folder holds, series by series, and a series as NIfTI."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.cli.console import one_line, stderr, stdout
from pipelines.cli.tables import show_table

if TYPE_CHECKING:
    from medmm.dicom.types import Series, Study


def list_series(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files, or one file.")],
    pixels: Annotated[bool, typer.Option("--pixels", help="Read the pixels too: slower, finds more.")] = False,
    gaps: Annotated[str, typer.Option(help="Missing slices: refuse or resample.")] = "refuse",
    index: Annotated[Path | None, typer.Option(help="Header index that makes the next run fast (holds ids).")] = None,
    workers: Annotated[int | None, typer.Option(help="Reader processes; one a core by default.")] = None,
) -> None:
    """List every series of a folder: what would be read, what not, and why. Names no patient and writes nothing else.

    Exit codes: 0 every series can be read, 1 some cannot, 2 wrong use.
    """
    from medmm.dicom import discover

    _check_gaps(gaps)
    found = discover(folder, workers=workers, index=index)
    rows = []
    refused = total = 0
    for number, study in enumerate(found.studies, start=1):
        for series, role in _with_roles(study):
            total += 1
            code, words = _outcome(series, pixels, gaps, workers)
            refused += bool(code)
            label = str(series.header.series_number or "-")
            size = str(len(series.slices))
            rows.append((str(number), label, series.modality, role, series.split_key, size, words))
    header = ("study", "series", "modality", "role", "volume", "slices", "outcome")
    show_table(header, rows, right=("study", "series", "slices"))
    console = stdout()
    reports = sum(len(study.reports) for study in found.studies)
    console.print(
        f"{len(found.studies)} studies, {total} volumes, {refused} would be refused, {reports} structured reports."
    )
    kinds = Counter(f"{item.code + ': ' if item.code else ''}{item.reason}" for item in found.skipped)
    if kinds:
        console.print("Files that are not read:", *(f"\n  {n} x {one_line(kind)}" for kind, n in kinds.most_common()))
    raise typer.Exit(1 if refused or any(item.code for item in found.skipped) else 0)


def export_nifti(
    series: Annotated[Path, typer.Argument(help="Folder, DICOM file or picture.")],
    out: Annotated[Path, typer.Argument(help="A .nii or .nii.gz file for one series, or a folder for all of them.")],
    gaps: Annotated[str, typer.Option(help="Missing slices: refuse or resample.")] = "refuse",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    workers: Annotated[int | None, typer.Option(help="Reader processes; one a core by default.")] = None,
) -> None:
    """Write series as NIfTI: float32, RAS, millimetres, CT in Hounsfield units. File names hold no patient data.

    \b
    Examples:
      medmm export-nifti study/head/ head.nii.gz
      medmm export-nifti study/ nifti/

    Exit codes: 0 all written, 1 some series could not be read, 2 wrong use.
    """
    from medmm.dicom.volume import read_volume
    from medmm.errors import InputError
    from medmm.images import write_nifti

    _check_gaps(gaps)
    console, failed = stderr(), 0
    for source, target in _targets(series, out, workers):
        if target.exists() and not overwrite:
            raise typer.BadParameter(f"{target.name} is there already; use --overwrite.", param_hint="OUT")
        try:
            volume = read_volume(source, gaps="resample" if gaps == "resample" else "refuse", workers=workers)
        except InputError as error:
            failed += 1
            console.print(f"{target.name}: {error.code}: {one_line(str(error))}", soft_wrap=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(volume, target)
        stdout().print(target.name)
        for note in volume.notes:
            console.print(f"  {note.code}: {one_line(note.message)}", soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def _targets(source: Path, out: Path, workers: int | None) -> "list[tuple[Series | Path, Path]]":
    """What goes where: one source into a file, or every series into a folder under names made of numbers and roles."""
    from medmm.dicom import discover

    if out.name.lower().endswith((".nii", ".nii.gz")):
        return [(source, out)]
    found, names = discover(source, workers=workers), Counter[str]()
    pairs: list[tuple[Series | Path, Path]] = []
    for number, study in enumerate(found.studies, start=1):
        for series, role in _with_roles(study):
            stem = f"study{number}_series{series.header.series_number or 0}_{role or series.modality.lower()}"
            names[stem] += 1
            suffix = f"_{names[stem]}" if names[stem] > 1 else ""
            pairs.append((series, out / f"{_safe(stem)}{suffix}.nii.gz"))
    return pairs


def _with_roles(study: "Study") -> "list[tuple[Series, str]]":
    from medmm.dicom.sequences import sequence_role

    headers = [series.header for series in study.series]
    return [
        (series, sequence_role(series.header, headers[:n] + headers[n + 1 :]) or "")
        for n, series in enumerate(study.series)
    ]


def _outcome(series: "Series", pixels: bool, gaps: str, workers: int | None) -> tuple[str, str]:
    """Return the code that would refuse a series ('' for none) and the words for it."""
    from medmm.dicom.limits import DEFAULT_LIMITS
    from medmm.dicom.volume import check_series, read_volume
    from medmm.errors import InputError

    policy: Literal["refuse", "resample"] = "resample" if gaps == "resample" else "refuse"
    try:
        if pixels:
            notes = read_volume(series, gaps=policy, workers=workers).notes
        else:
            check_series(series, gaps=policy, limits=DEFAULT_LIMITS)
            notes = series.notes
    except InputError as error:
        return error.code, f"REFUSE {error.code}: {error.message}"
    return "", "; ".join(["OK", *(f"{note.code}: {note.message}" for note in notes)])


def _safe(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "-" for letter in name)


def _check_gaps(gaps: str) -> None:
    if gaps not in ("refuse", "resample"):
        raise typer.BadParameter("Expected refuse or resample.", param_hint="--gaps")
