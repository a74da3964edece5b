"""From one file to what discovery needs of it: an image instance, a text report, or the reason why it is neither."""

from dataclasses import dataclass
from pathlib import Path

from medmm.dicom import syntaxes, tags
from medmm.dicom.acquisition import UNNAMED_METHOD, read_acquisition
from medmm.dicom.attributes import DataSet, missing
from medmm.dicom.frames import read_frames
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.parse import UNDEFINED
from medmm.dicom.pixel_format import check_pixel_length, read_modality_lut, read_pixel_format
from medmm.dicom.recent import Recent
from medmm.dicom.repeats import Repeats
from medmm.dicom.source import BrokenHeaderError, Header, NotDicomError, OpenedFile, open_header
from medmm.dicom.types import AcquisitionHeader, Instance, Skipped, TextReport
from medmm.errors import InputError
from medmm.types import Note

_VOLUME_MODALITIES = frozenset({"CT", "MR", "PT"})
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW", "SCANOGRAM", "SURVEY"})
_PAGES = frozenset({"DOSE_INFO", "DOSE", "SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "PROTOCOL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose data a file is, as its tags say."""

    study_uid: str
    series_uid: str
    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    age: str = ""
    study_date: str = ""
    study_description: str = ""


_recent = Recent[Identity]()
_repeats = [Repeats(DEFAULT_LIMITS)]
_IDENTITY_TAGS = (  # every attribute that `_identity` takes
    tags.STUDY_UID,
    tags.SERIES_UID,
    tags.PATIENT_ID,
    tags.ISSUER_OF_PATIENT_ID,
    tags.PATIENT_NAME,
    tags.PATIENT_BIRTH_DATE,
    tags.PATIENT_SEX,
    tags.PATIENT_AGE,
    tags.STUDY_DATE,
    tags.STUDY_DESCRIPTION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What one file is. Exactly one of `instance`, `report` and `skipped` is set; `identity` may be unknown."""

    identity: Identity | None = None
    instance: Instance | None = None
    report: TextReport | None = None
    skipped: Skipped | None = None
    sop_uid: str = ""  # of a skipped file: tells whether there is an intact copy
    referenced: tuple[str, ...] = ()  # file names that a DICOMDIR lists


def examine(path: Path, limits: Limits) -> FileFacts:
    """Return what a file is; failures of this one file are returned as `skipped`, never raised."""
    identity: Identity | None = None
    sop_uid = ""
    repeats = _repeats_under(limits)
    try:
        with open_header(path, limits, repeats.first_bytes) as header:
            known = _examine_repeated(path, header, repeats)
            if known is not None:
                return known
            opened = header.read()
        if opened.media_class == syntaxes.MEDIA_DIRECTORY or tags.DIRECTORY_RECORD_SEQUENCE in opened.dataset:
            return FileFacts(
                skipped=Skipped(path, "DICOMDIR (media directory)"), referenced=_referenced(opened.dataset)
            )
        identity, sop_uid = _read_identity(opened.dataset), opened.dataset.text(tags.SOP_INSTANCE_UID)
        facts = _examine_object(path, opened, identity, limits)
        repeats.learn(opened, facts)
        return facts
    except NotDicomError as error:
        return FileFacts(skipped=Skipped(path, str(error)))
    except BrokenHeaderError as error:
        identity = _read_identity(error.dataset)
        skipped = Skipped(path, str(error), error.code, identity.series_uid)
        return FileFacts(identity=identity, skipped=skipped, sop_uid=error.dataset.text(tags.SOP_INSTANCE_UID))
    except InputError as error:
        uid = identity.series_uid if identity else ""
        return FileFacts(identity=identity, skipped=Skipped(path, str(error), error.code, uid), sop_uid=sop_uid)


def _repeats_under(limits: Limits) -> Repeats:
    """The headers met last under the same limits."""
    if _repeats[0].limits != limits:
        _repeats[0] = Repeats(limits)
    return _repeats[0]


def _examine_repeated(path: Path, header: Header, repeats: Repeats) -> FileFacts | None:
    """Return what a file is when its header follows a pattern; None when it must be walked, faulty ones included."""
    found = repeats.find(header.head)
    if found is None:
        return None
    pattern, elements, offset = found
    model = pattern.facts.instance
    assert model is not None
    dataset = DataSet(header.head, elements, is_big_endian=False)
    try:
        if model.pixel_length >= 0:
            stop = offset + model.pixel_length
            if stop > header.size or header.after_pixels(stop, pattern.is_explicit, False):
                return None
        frames = read_frames(dataset, model.header, model.pixels)
    except InputError:
        return None
    number = dataset.lenient_number(tags.INSTANCE_NUMBER)
    instance = Instance(
        path=path,
        size=header.size,
        mtime_ns=header.mtime_ns,
        sop_uid=dataset.text(tags.SOP_INSTANCE_UID),
        number=None if number is None else int(number),
        header=model.header,
        pixels=model.pixels,
        pixel_offset=offset,
        pixel_length=model.pixel_length,
        frames=frames,
        notes=model.notes,
    )
    return FileFacts(identity=pattern.facts.identity, instance=instance)


def _examine_object(path: Path, opened: OpenedFile, identity: Identity, limits: Limits) -> FileFacts:
    dataset = opened.dataset
    sop_class = dataset.text(tags.SOP_CLASS_UID) or opened.media_class
    if sop_class in syntaxes.TEXT_REPORTS:
        report = TextReport(
            path=path,
            sop_uid=dataset.text(tags.SOP_INSTANCE_UID),
            content_date=dataset.text(tags.CONTENT_DATE) or identity.study_date,
            is_final=dataset.text(tags.COMPLETION_FLAG) == "COMPLETE",
        )
        return FileFacts(identity=identity, report=report)
    reason = _why_not_a_volume(dataset, sop_class, has_pixels=opened.walk.pixels is not None)
    if reason:
        return FileFacts(identity=identity, skipped=Skipped(path, reason, "", identity.series_uid))
    for tag, value in ((tags.STUDY_UID, identity.study_uid), (tags.SERIES_UID, identity.series_uid)):
        if not value:
            raise missing(tag)
    return FileFacts(identity=identity, instance=_read_instance(path, opened, limits))


def _why_not_a_volume(dataset: DataSet, sop_class: str, *, has_pixels: bool) -> str:
    """Say why an object is no image of a volume; '' when it is one."""
    modality = dataset.text(tags.MODALITY).upper()
    if sop_class in syntaxes.CAPTURE_CLASSES:
        if modality not in _VOLUME_MODALITIES:
            return f"secondary capture, modality {_safe(modality)}"
        return _why_not_a_slice(dataset, modality)
    if sop_class and sop_class not in syntaxes.VOLUME_CLASSES:
        return f"{_class_name(sop_class)}, not a CT, MR or PET image"
    if not sop_class and modality not in _VOLUME_MODALITIES:
        return f"no SOP class, modality {_safe(modality)}" if has_pixels or modality else "DICOM without an image"
    return _why_not_a_slice(dataset, modality)


def _why_not_a_slice(dataset: DataSet, modality: str) -> str:
    """Say which picture beside a volume an image is, by (0008,0008) Image Type; '' when none."""
    kinds = {value.upper() for value in dataset.texts(tags.IMAGE_TYPE)}
    if kinds & _LOCALIZERS:
        return f"localizer ({_safe(modality)})"
    if kinds & _PAGES:
        return f"dose or screen page ({_safe(modality)})"
    return ""


def _read_instance(path: Path, opened: OpenedFile, limits: Limits) -> Instance:
    dataset, notes = opened.dataset, list(opened.notes)
    pixel_format = read_pixel_format(opened, limits)
    pixels = opened.walk.pixels
    if pixels is None and any(tag >> 16 > 0x7FE0 and tag >> 16 & 1 for tag in dataset.elements):
        raise InputError(
            "Expected (7FE0,0010) Pixel Data (got pixels in a private attribute).",
            code="decode.unsupported",
            remedy="Export the series again without private compression.",
        )
    if pixels is None or pixels.start == pixels.stop:
        raise InputError(
            "Expected (7FE0,0010) Pixel Data in an image (got none).",
            code="dicom.no_pixels",
            remedy="Export the series again with its pixels.",
        )
    length = -1 if pixels.stop == UNDEFINED else pixels.stop - pixels.start
    notes += check_pixel_length(opened, pixel_format, length)
    if opened.walk.odd_tags:
        name = tags.name_of(opened.walk.odd_tags[0])
        message = f"{len(opened.walk.odd_tags)} attributes have an odd length or an unknown VR; the first is {name}."
        notes.append(Note("dicom.bad_value", message))
    header = read_acquisition(dataset, opened.media_class)
    frames = read_frames(dataset, header, pixel_format)
    number = dataset.lenient_number(tags.INSTANCE_NUMBER)
    notes += _image_notes(header, opened.transfer_syntax)
    return Instance(
        path=path,
        size=opened.size,
        mtime_ns=opened.mtime_ns,
        sop_uid=dataset.text(tags.SOP_INSTANCE_UID),
        number=None if number is None else int(number),
        header=header,
        pixels=pixel_format,
        pixel_offset=pixels.start,
        pixel_length=length,
        frames=frames,
        modality_lut=read_modality_lut(dataset, pixel_format),
        notes=tuple(notes),
    )


def _image_notes(header: AcquisitionHeader, transfer_syntax: str) -> list[Note]:
    """What a reader must know of the pixels: loss, burned-in text."""
    notes = []
    codec, name = syntaxes.CODECS.get(transfer_syntax), header.lossy_method
    if codec is not None and codec.is_lossy and name in ("", UNNAMED_METHOD):
        name = codec.name
    if name:
        ratio = f", ratio {header.lossy_ratio:g}" if header.lossy_ratio else ""
        notes.append(Note("image.lossy", f"The pixels were compressed with loss ({_safe(name)}{ratio})."))
    if header.has_burned_in_annotation:
        notes.append(Note("image.burned_in", "The file says that text is burned into its pixels."))
    return notes


def _read_identity(dataset: DataSet) -> Identity:
    """Whose data a file is; the patient and the study are the same in most files of a run."""
    key = (dataset.charsets, *[dataset.raw(tag) for tag in _IDENTITY_TAGS])
    return _recent.get(key, lambda: _identity(dataset))


def _identity(dataset: DataSet) -> Identity:
    return Identity(
        study_uid=dataset.text(tags.STUDY_UID),
        series_uid=dataset.text(tags.SERIES_UID),
        patient_id=dataset.label(tags.PATIENT_ID),
        issuer=dataset.label(tags.ISSUER_OF_PATIENT_ID),
        patient_name=dataset.label(tags.PATIENT_NAME),
        birth_date=dataset.text(tags.PATIENT_BIRTH_DATE),
        sex=dataset.text(tags.PATIENT_SEX),
        age=dataset.text(tags.PATIENT_AGE),
        study_date=dataset.text(tags.STUDY_DATE),
        study_description=dataset.label(tags.STUDY_DESCRIPTION),
    )


def _referenced(dataset: DataSet) -> tuple[str, ...]:
    names = []
    for record in dataset.items(tags.DIRECTORY_RECORD_SEQUENCE):
        parts = [part for part in record.texts(tags.REFERENCED_FILE_ID) if part]
        if parts:
            names.append("/".join(parts))
    return tuple(names)


def _class_name(uid: str) -> str:
    from pydicom.config import IGNORE
    from pydicom.uid import UID

    known = UID(uid, validation_mode=IGNORE)  # a broken one is nothing to warn of, and its text stays out of logs
    return str(known.name) if known.is_valid and known.name != uid else "an unknown object"


def _safe(text: str) -> str:
    """Free text of a tag, fit for a message: printable, short."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:32] or "not given"
