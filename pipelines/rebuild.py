"""Reports written again from finished cases: other formats, another language. No model is loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medmm.errors import InputError, UsageError
from medmm.report.rebuild import read_case_report
from medmm.report.writers import DICOM_FORMATS, CasePaths, check_formats
from pipelines.output import check_apart

if TYPE_CHECKING:
    from medmm.dicom.types import Series
    from medmm.report.document import CaseDocument
    from medmm.types import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """What to write again. `studies` is the folder of the images; without it pictures come from the earlier page."""

    formats: tuple[str, ...]
    lang: str = "en"
    include_report_text: bool = False
    out: Path | None = None
    studies: Path | None = None
    id_key: Path | None = None


@dataclass(frozen=True, slots=True)
class _Images:
    """What the images of a case give: volumes for pictures, series to refer to."""

    volumes: "Mapping[str, Volume] | None" = None
    sources: "Mapping[str, Series]" = field(default_factory=dict)


def rebuild_report(case_file: Path, job: Rebuild) -> CasePaths:
    """Write the report of a finished case again.

    Args:
        case_file: A `case.json`, or the folder of a case.
        job: What to write, and where the images are.
    Raises:
        UsageError: `config.key` for files or formats that cannot be used.
        InputError: `io.changed` where files do not belong together, `series.none` where the study is not among the
            images, and what `CaseReport.save` raises.
    """
    check_rebuild(job)
    bare = read_case_report(case_file, volumes={})
    if job.include_report_text and bare.content.report_text is None:
        raise UsageError(
            "The case file holds no report text to show.",
            code="config.key",
            remedy="Diagnose the case again with --include-report-text.",
        )
    images = _read_images(bare.content, job)
    folder = case_file if case_file.is_dir() else case_file.parent
    return read_case_report(case_file, images.volumes).save(
        job.out or folder,
        formats=job.formats,
        lang=job.lang,
        include_report_text=job.include_report_text,
        sources=images.sources,
    )


def check_rebuild(job: Rebuild) -> None:
    """Raise for what can be known to be wrong before anything is read.

    Raises:
        UsageError: `config.key`; `config.output` where the output lies among the images.
    """
    from medmm.report.texts import load_texts

    try:
        check_formats(job.formats)
        load_texts(job.lang)
    except ValueError as error:
        raise UsageError(str(error), code="config.key") from None
    if "nii" in job.formats and job.out is None:
        raise UsageError(
            "Heatmaps and masks are what a report is rebuilt from; they are there already.",
            code="config.key",
            remedy="Leave nii out, or name another folder with --out.",
        )
    if job.studies is not None and job.out is not None:
        check_apart(job.studies, job.out)
    needs = [name for name in DICOM_FORMATS if name in job.formats]
    if needs and job.studies is None:
        raise UsageError(
            f"Expected --studies FOLDER for {', '.join(needs)}: DICOM results refer to their source images.",
            code="config.key",
            remedy="Name the folder that was diagnosed.",
        )


def _read_images(content: "CaseDocument", job: Rebuild) -> _Images:
    from medmm.cases import find_cases
    from medmm.identity import load_key

    if job.studies is None:
        return _Images()
    case_id, hashes = content.case_id, content.provenance.input_sha256
    roles = tuple(part.role for part in content.series)
    plans = find_cases(job.studies, roles=roles, id_key=load_key(job.id_key)).plans
    plan = next((plan for plan in plans if plan.case_id == case_id), None)
    if plan is None:
        raise InputError(
            f"{case_id} is not among the {len(plans)} studies of that folder.",
            code="series.none",
            remedy="Name the folder that was diagnosed; with another key of case ids, also --id-key FILE.",
        )
    case = plan.read()
    if any(case.input_hashes.get(role) != hashes.get(role) for role in roles):
        raise InputError(
            f"The images of {case_id} are not those that were diagnosed.",
            code="io.changed",
            remedy="Diagnose the case again.",
        )
    return _Images(volumes=case.volumes, sources=plan.series)


def case_files(paths: Iterable[Path]) -> list[Path]:
    """The case files that paths name: a `case.json`, a case's folder, or the folder of a run (all of its cases).

    Raises:
        UsageError: `config.key` where a path holds none.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted((path / "cases").glob("*/case.json")) if path.is_dir() else [path]
        own = [path / "case.json"] if (path / "case.json").is_file() else []
        if not (own or inside):
            raise UsageError(
                "Expected a case.json, or a folder that holds one (found none).",
                code="config.key",
                remedy="Name cases/<id>/case.json of a run; the run must have been made with the format json.",
            )
        found += own or inside
    return found
