"""One DICOM file: read under the caps, cleaned, written under an opaque name."""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.parse import UNDEFINED
from medmm.dicom.source import NotDicomError, OpenedFile, read_header
from medmm.dicom.syntaxes import TEXT_REPORTS
from medmm.errors import InputError
from medmm.report.files import write_atomic
from pipelines.deidentify.actions import build_table
from pipelines.deidentify.cleaning import Cleaner, find_identifiers
from pipelines.deidentify.options import STANDARD, Options
from pipelines.deidentify.pixels import blank, may_hold_text, read_masks, shows_a_head, trim
from pipelines.deidentify.pseudonyms import STANDARD_ROOT, Pseudonyms
from pipelines.deidentify.text import Scrubber, graph_vocabulary

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

VERSION_NAME = "MEDMM DEID 1"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0"  # (FFFE,E0DD), little endian as all encapsulated syntaxes are; a length follows
_MORE_CLASSES = frozenset({"Segmentation Storage", "Parametric Map Storage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was written: its place under the output folder, and whose it is. Never logged."""

    output: str
    patient: str
    patient_id: str = field(repr=False)
    study_uid: str = field(repr=False)
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    is_masked: bool = False
    shows_head: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOurs:
    """A file that is left out without being a failure, and why."""

    reason: str


def deidentify_file(
    path: Path, output: Path, key: bytes, options: Options, limits: Limits = DEFAULT_LIMITS
) -> Written | NotOurs:
    """Write the de-identified copy of one file under `output`.

    Raises:
        InputError: The file cannot be used (codes of `read_header`), its pixels cannot be vouched for
            (`image.burned_in`), or needed attributes are missing.
        StopRun: `disk.full`.
    """
    try:
        opened = read_header(path, limits)
    except NotDicomError as error:
        return NotOurs(reason=str(error))
    _check_pixels_are_there(path, opened)
    dataset = _read(path, opened.transfer_syntax)
    reason = _why_left_out(dataset, options)
    if reason:
        return NotOurs(reason=reason)
    if "PixelData" in dataset:
        trim(dataset)
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not str(dataset.get(name) or ""):
            raise InputError(f"Expected {name} (got none).", code="dicom.missing_tag", remedy="Export the file again.")
    pseudonyms = Pseudonyms(key)
    study_uid, patient_id = str(dataset.StudyInstanceUID), _text(dataset, "PatientID")
    patient = pseudonyms.patient(patient_id, study_uid)
    place = _place(dataset, patient, pseudonyms)
    identifiers = find_identifiers(dataset)
    shows_head, is_masked = shows_a_head(dataset), _mask(dataset, options)
    has_content = options.clean_content and str(dataset.SOPClassUID) in TEXT_REPORTS
    cleaner = Cleaner(
        table=build_table(options),
        pseudonyms=pseudonyms,
        scrubber=Scrubber(known=identifiers, vocabulary=graph_vocabulary() if has_content else frozenset()),
        patient=patient,
        shift_days=pseudonyms.shift_days(patient) if options.shift_dates else 0,
        has_content=has_content,
    )
    cleaner.clean(dataset)
    _state_method(dataset, patient, options, is_masked=is_masked)
    write_atomic(output / place, _encode(dataset))
    return Written(
        output=place,
        patient=patient,
        patient_id=patient_id,
        study_uid=study_uid,
        identifiers=identifiers,
        is_masked=is_masked,
        shows_head=shows_head,
    )


def _check_pixels_are_there(path: Path, opened: OpenedFile) -> None:
    """Raise where the file ends inside its pixels, which the walk over the header does not look into."""
    pixels = opened.walk.pixels
    if pixels is None or opened.inflated is not None:
        return
    if pixels.stop != UNDEFINED:
        if pixels.stop > opened.size:
            raise _truncated()
        return
    with path.open("rb") as stream:
        stream.seek(pixels.start)
        fragments = stream.read()
    end = fragments.rfind(_SEQUENCE_END)
    if end < 0 or len(fragments) - end < 2 * len(_SEQUENCE_END):
        raise _truncated()


def _truncated() -> InputError:
    return InputError(
        "Expected the data set to be complete (got a file that ends inside it).",
        code="dicom.truncated",
        remedy="Copy or export the file again.",
    )


def _read(path: Path, transfer_syntax: str) -> "FileDataset":
    """Parse a file whose structure the strict walk has vouched for."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are judged by the cleaner
        try:
            dataset = pydicom.dcmread(path, force=True)
        except EOFError:
            raise _truncated() from None
        except (InvalidDicomError, ValueError, OSError, KeyError, AttributeError, NotImplementedError):
            raise InputError("The file is not well-formed DICOM.", code="dicom.malformed") from None
    if not getattr(dataset.file_meta, "TransferSyntaxUID", ""):
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(transfer_syntax)
    return dataset


def _why_left_out(dataset: "Dataset", options: Options) -> str:
    """Say why an object is not written: only kinds for which the rules here are enough are."""
    from pydicom.uid import UID

    uid = UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    if not uid.startswith(STANDARD_ROOT):
        return "no SOP class of the standard"
    if uid in TEXT_REPORTS:
        return "" if options.clean_content else "structured report (written with --clean-content)"
    name = uid.name
    if "Image Storage" in name and "Presentation" not in name.replace("For Presentation", ""):
        return "" if any(tag in dataset for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")) else (
            "image object without pixels"
        )  # fmt: skip
    return "" if name in _MORE_CLASSES else f"{name}: no rule makes it safe"


def _mask(dataset: "FileDataset", options: Options) -> bool:
    """Blank what the table of masks says; refuse what may show text and has no region.

    Raises:
        InputError: `image.burned_in`.
    """
    masks = tuple(mask for mask in read_masks(options.masks) if mask.fits(dataset)) if options.masks else ()
    if masks:
        blank(dataset, masks)
    elif may_hold_text(dataset):
        raise InputError(
            "Text may be burned into the pixels and no region to blank is given for this kind of image.",
            code="image.burned_in",
            remedy="Give a table of regions (--masks), or set (0028,0301) to NO in images you have looked at.",
        )
    return bool(masks)


def _place(dataset: "Dataset", patient: str, pseudonyms: Pseudonyms) -> str:
    study = pseudonyms.name("study", str(dataset.StudyInstanceUID))
    series = pseudonyms.name("series", str(dataset.SeriesInstanceUID))
    return f"{patient}/{study}/{series}/{pseudonyms.name('instance', str(dataset.SOPInstanceUID))}.dcm"


def _state_method(dataset: "Dataset", patient: str, options: Options, *, is_masked: bool) -> None:
    """Set the pseudonym and record what was done (PS3.15 E.1.1 and E.3.6)."""
    from pydicom.dataset import Dataset as NewDataset

    methods = options.methods(has_clean_pixels=is_masked)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID = dataset.PatientName = patient
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [f"medmm: {STANDARD}"[:64], *(meaning[:64] for _, meaning in methods)]
    items = []
    for value, meaning in methods:
        item = NewDataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if options.shift_dates else "REMOVED"


def _encode(dataset: "FileDataset") -> bytes:
    """Return the file with new file meta information and an empty preamble; nothing of the old ones is taken over."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    syntax = dataset.file_meta.TransferSyntaxUID
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(str(dataset.SOPClassUID))
    meta.MediaStorageSOPInstanceUID = UID(str(dataset.SOPInstanceUID))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = VERSION_NAME
    dataset.file_meta, dataset.preamble = meta, bytes(128)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kept values may break rules that the source broke
        try:
            dcmwrite(buffer, dataset, enforce_file_format=True)
        except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, OverflowError, OSError):
            raise InputError("A kept attribute has a value that cannot be written.", code="dicom.bad_value") from None
    return buffer.getvalue()


def _text(dataset: "Dataset", keyword: str) -> str:
    return str(dataset.get(keyword) or "")
