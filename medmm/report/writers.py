"""The formats of a report by name, and which file each of them becomes.

DICOM and FHIR results are filed by whose they are, so they are written from the source series (`sources`), which are
opened again for it; nothing else of a report knows a patient.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from medmm.errors import InputError, UsageError
from medmm.report.files import write_atomic
from medmm.report.nifti import heatmap_nifti, mask_nifti
from medmm.report.texts import load_texts

if TYPE_CHECKING:
    from medmm.dicom.types import Series
    from medmm.report.content import CaseReport

DICOM_FORMATS = ("seg", "pm", "sc", "epdf", "sr")
FORMATS = ("html", "json", "nii", "txt", "pdf", "fhir", *DICOM_FORMATS)
# Module that a format needs, and the extra that brings it.
_EXTRAS = {"pdf": ("weasyprint", "pdf"), "epdf": ("weasyprint", "pdf"), "fhir": ("fhir.resources", "fhir")}


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePaths:
    """What was written; None and empty for formats that were not asked for. `dicom` is by file name."""

    folder: Path
    json: Path | None = None
    html: Path | None = None
    heatmaps: Mapping[str, Path] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    text: Path | None = None
    pdf: Path | None = None
    fhir: Path | None = None
    dicom: Mapping[str, Path] = field(default_factory=dict)

    def all(self) -> tuple[Path, ...]:
        """Every file, in the order of the formats."""
        single = (self.html, self.json, self.text, self.pdf, self.fhir)
        many = (*self.heatmaps.values(), *self.masks.values(), *self.dicom.values())
        return (*(path for path in single if path is not None), *many)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteJob:
    """A report on its way to the disk."""

    report: "CaseReport"
    folder: Path
    lang: str
    include_report_text: bool
    sources: Mapping[str, "Series"]

    def put(self, name: str, content: bytes) -> Path:
        """Write one file of the case."""
        return write_atomic(self.folder / name, content)


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """Return the formats, each once, in the order in which they are written.

    Raises:
        ValueError: If one is not known, or there is none.
        UsageError: `config.key`, if the package of an extra, or the system library that it needs, is not installed.
    """
    wanted = list(formats)
    unknown = sorted(set(wanted) - set(FORMATS))
    if unknown or not wanted:
        raise ValueError(f"Expected formats out of {', '.join(FORMATS)} (got {', '.join(unknown) or 'none'}).")
    for name in wanted:
        module, extra = _EXTRAS.get(name, ("json", ""))
        if not _is_installed(module):
            raise UsageError(
                f"The format {name!r} needs a package that is not installed.",
                code="config.key",
                remedy=f"Install it with: pip install 'medmm[{extra}]'",
            )
        if module == "weasyprint":
            from medmm.report.pdf import load_weasyprint

            load_weasyprint()
    return tuple(name for name in FORMATS if name in wanted)


def write_report(job: WriteJob, formats: Iterable[str]) -> CasePaths:
    """Write a report in every format asked for; see `CaseReport.save`."""
    wanted = check_formats(formats)
    load_texts(job.lang)
    dicom = tuple(name for name in DICOM_FORMATS if name in wanted)
    if dicom and not job.sources:
        raise InputError(
            f"Expected the source series of the case for {', '.join(dicom)} (got none).",
            code="output.source",
            remedy="DICOM results are filed with the study they are about: name it (sources=..., or --studies FOLDER).",
        )
    heatmaps, masks = _write_nifti(job) if "nii" in wanted else ({}, {})
    single = {name: write(job) for name, write in _SINGLE.items() if name in wanted}
    written: Mapping[str, Path] = {}
    if dicom:
        from medmm.report.dicom import write_dicom

        written = write_dicom(job, dicom)
    return CasePaths(
        folder=job.folder,
        json=single.get("json"),
        html=single.get("html"),
        heatmaps=heatmaps,
        masks=masks,
        text=single.get("txt"),
        pdf=single.get("pdf"),
        fhir=single.get("fhir"),
        dicom=written,
    )


def _write_html(job: WriteJob) -> Path:
    from medmm.report.html import render_case

    page = render_case(job.report, lang=job.lang, include_report_text=job.include_report_text)
    return job.put("report.html", page.encode("utf-8", errors="replace"))


def _write_json(job: WriteJob) -> Path:
    text = job.report.to_json(lang=job.lang, include_report_text=job.include_report_text)
    return job.put("case.json", text.encode("utf-8", errors="replace"))


def _write_text(job: WriteJob) -> Path:
    return job.put("draft.txt", job.report.draft_text(lang=job.lang).encode("utf-8", errors="replace"))


def _write_pdf(job: WriteJob) -> Path:
    from medmm.report.pdf import render_pdf

    pages = render_pdf(job.report, lang=job.lang, include_report_text=job.include_report_text)
    return job.put("report.pdf", pages)


def _write_fhir(job: WriteJob) -> Path:
    from medmm.report.fhir import fhir_bundle

    return job.put("fhir.json", fhir_bundle(job).encode())


def _write_nifti(job: WriteJob) -> tuple[dict[str, Path], dict[str, Path]]:
    report = job.report
    heatmaps = {
        file: job.put(file, heatmap_nifti(part.values, part.affine_ras)) for file, part in report.heatmaps.items()
    }
    masks = {}
    for name, region in report.masks.items():
        file = report.content.regions[name].file
        if file:
            masks[name] = job.put(file, mask_nifti(region.mask, region.affine_ras))
    return heatmaps, masks


_SINGLE: dict[str, Callable[[WriteJob], Path]] = {
    "html": _write_html,
    "json": _write_json,
    "txt": _write_text,
    "pdf": _write_pdf,
    "fhir": _write_fhir,
}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
