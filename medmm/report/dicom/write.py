"""The DICOM files of a case: which kinds, in which order, under which names."""

import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medmm.errors import InputError
from medmm.report.dicom.encapsulated_pdf import encapsulated_pdf
from medmm.report.dicom.images import parametric_maps, secondary_captures, segmentations
from medmm.report.dicom.structured_report import structured_report
from medmm.report.dicom.study import ResultStudy

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from pydicom import Dataset

    from medmm.report.writers import WriteJob

FOLDER = "dicom"


def write_dicom(job: "WriteJob", kinds: Iterable[str]) -> dict[str, Path]:
    """Write the results of a case as DICOM files and return them by name.

    Args:
        job: The report and the series that its volumes came from.
        kinds: Some of `seg`, `pm`, `sc`, `epdf`, `sr`. The structured report names the segments of `seg` where both are
            written.
    Raises:
        InputError: `output.source` where a result cannot refer to its source; `io.changed`.
    """
    study = ResultStudy.of(job)
    written: dict[str, Path] = {}
    try:
        with warnings.catch_warnings():
            # Doubts of the libraries about the source's own values (a name of one part); they quote them, too.
            warnings.simplefilter("ignore", UserWarning)
            for name, result in _results(study, job, set(kinds)):
                study.complete(result)
                written[name] = job.put(f"{FOLDER}/{name}", _to_bytes(result))
    except ValueError as error:
        # highdicom refuses what the standard does not allow; its text may quote the source, so it is not repeated.
        raise InputError(
            f"A DICOM result cannot be made from this source ({type(error).__name__}).",
            code="output.source",
            remedy="Check the source with a DICOM validator, or leave the DICOM formats out.",
        ) from error
    return written


def _results(study: ResultStudy, job: "WriteJob", kinds: set[str]) -> "Iterator[tuple[str, Dataset]]":
    masks: dict[str, Segmentation] = {}
    if "seg" in kinds:
        for role, name, segmentation in segmentations(study):
            masks[role] = segmentation
            yield name, segmentation
    if "pm" in kinds:
        yield from parametric_maps(study)
    if "sc" in kinds:
        yield from secondary_captures(study)
    if "epdf" in kinds:
        from medmm.report.pdf import render_pdf

        pages = render_pdf(job.report, lang=job.lang, include_report_text=job.include_report_text)
        yield "report_pdf.dcm", encapsulated_pdf(study, pages)
    if "sr" in kinds:
        yield "sr.dcm", structured_report(study, masks)


def _to_bytes(result: "Dataset") -> bytes:
    stream = io.BytesIO()
    result.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
