"""How an image was acquired: the attributes that tell one sequence from another, classic and enhanced alike."""

from functools import partial

from medmm.dicom import tags
from medmm.dicom.attributes import DataSet
from medmm.dicom.recent import Recent
from medmm.dicom.types import AcquisitionHeader

UNNAMED_METHOD = "unnamed method"  # of a loss that the file admits without saying how it came about
_recent = Recent[AcquisitionHeader]()
# Every attribute that `_read` takes from a classic image.
_TAGS = (
    tags.MODALITY,
    tags.SOP_CLASS_UID,
    tags.MANUFACTURER,
    tags.SERIES_DESCRIPTION,
    tags.PROTOCOL_NAME,
    tags.SERIES_NUMBER,
    tags.IMAGE_TYPE,
    tags.SCANNING_SEQUENCE,
    tags.SEQUENCE_VARIANT,
    tags.SCAN_OPTIONS,
    tags.SEQUENCE_NAME,
    tags.PULSE_SEQUENCE_NAME,
    tags.CONTRAST_AGENT,
    tags.REPETITION_TIME,
    tags.ECHO_TIME,
    tags.EFFECTIVE_ECHO_TIME,
    tags.INVERSION_TIME,
    tags.INVERSION_TIMES,
    tags.FLIP_ANGLE,
    tags.ECHO_NUMBERS,
    tags.B_VALUE,
    tags.FIELD_STRENGTH,
    tags.GANTRY_TILT,
    tags.CONVOLUTION_KERNEL,
    tags.BODY_PART,
    tags.PATIENT_POSITION,
    tags.FRAME_OF_REFERENCE_UID,
    tags.SLICE_THICKNESS,
    tags.SPACING_BETWEEN_SLICES,
    tags.RESCALE_TYPE,
    tags.RESCALE_SLOPE,
    tags.BURNED_IN_ANNOTATION,
    tags.LOSSY_COMPRESSION,
    tags.LOSSY_METHOD,
    tags.LOSSY_RATIO,
)


def read_acquisition(dataset: DataSet, media_class: str = "") -> AcquisitionHeader:
    """Return the acquisition header of one image; what is absent or unreadable is left at its default.

    Enhanced objects keep these in functional groups: the shared item is read first, then the first frame's. Slices of
    a series share all of it, so the last headers are kept by their bytes.
    """
    if any(tag in dataset for tag in (tags.SHARED_GROUPS, tags.PER_FRAME_GROUPS, tags.CONTRAST_AGENT_SEQUENCE)):
        return _read(dataset, media_class)
    key = (media_class, dataset.is_big_endian, dataset.charsets, *[dataset.raw(tag) for tag in _TAGS])
    return _recent.get(key, lambda: _read(dataset, media_class))


def _read(dataset: DataSet, media_class: str) -> AcquisitionHeader:
    groups = _functional_groups(dataset)
    number = partial(_number, groups)
    agent = dataset.label(tags.CONTRAST_AGENT) or _enhanced_agent(dataset)
    field = dataset.lenient_number(tags.FIELD_STRENGTH)
    series_number = dataset.lenient_number(tags.SERIES_NUMBER)
    echo = dataset.lenient_number(tags.ECHO_NUMBERS)
    return AcquisitionHeader(
        modality=dataset.text(tags.MODALITY).upper(),
        sop_class_uid=dataset.text(tags.SOP_CLASS_UID) or media_class,
        manufacturer=dataset.label(tags.MANUFACTURER),
        description=dataset.label(tags.SERIES_DESCRIPTION),
        protocol_name=dataset.label(tags.PROTOCOL_NAME),
        series_number=None if series_number is None else int(series_number),
        image_type=tuple(value.upper() for value in dataset.texts(tags.IMAGE_TYPE)),
        scanning_sequence=dataset.texts(tags.SCANNING_SEQUENCE),
        sequence_variant=dataset.texts(tags.SEQUENCE_VARIANT),
        scan_options=dataset.texts(tags.SCAN_OPTIONS),
        sequence_name=dataset.label(tags.SEQUENCE_NAME) or dataset.label(tags.PULSE_SEQUENCE_NAME),
        contrast_agent=agent,
        tr_ms=number(tags.REPETITION_TIME),
        te_ms=number(tags.ECHO_TIME, tags.EFFECTIVE_ECHO_TIME),
        ti_ms=number(tags.INVERSION_TIME, tags.INVERSION_TIMES),
        flip_angle_deg=number(tags.FLIP_ANGLE),
        echo_number=None if echo is None else int(echo),
        b_value=number(tags.B_VALUE),
        field_strength_t=None if field is None else (field / 10_000 if field > 100 else field),  # gauss in old files
        gantry_tilt_deg=number(tags.GANTRY_TILT),
        convolution_kernel=dataset.label(tags.CONVOLUTION_KERNEL),
        body_part=dataset.label(tags.BODY_PART),
        patient_position=dataset.text(tags.PATIENT_POSITION),
        frame_of_reference_uid=dataset.text(tags.FRAME_OF_REFERENCE_UID),
        slice_thickness_mm=number(tags.SLICE_THICKNESS),
        spacing_between_slices_mm=number(tags.SPACING_BETWEEN_SLICES),
        rescale_type=dataset.text(tags.RESCALE_TYPE) or _group_text(groups, tags.RESCALE_TYPE),
        has_rescale=any(tags.RESCALE_SLOPE in group for group in groups),
        has_burned_in_annotation=dataset.text(tags.BURNED_IN_ANNOTATION).upper() == "YES",
        lossy_method=(dataset.text(tags.LOSSY_METHOD) or UNNAMED_METHOD)
        if dataset.text(tags.LOSSY_COMPRESSION) == "01"
        else "",
        lossy_ratio=dataset.lenient_number(tags.LOSSY_RATIO),
    )


def _functional_groups(dataset: DataSet) -> list[DataSet]:
    """The data set, then the items of every functional group of the shared and the first per-frame item."""
    found = [dataset]
    for root in (tags.SHARED_GROUPS, tags.PER_FRAME_GROUPS):
        item = dataset.first(root)
        if item is not None:
            found += [group for tag in item.elements for group in item.items(tag)[:1]]
    return found


def _number(groups: list[DataSet], *names: int) -> float | None:
    """The value of the first of `names` that one of the groups has."""
    for name in names:
        for group in groups:
            if name in group:
                return group.lenient_number(name)
    return None


def _group_text(groups: list[DataSet], tag: int) -> str:
    return next((group.text(tag) for group in groups if tag in group), "")


def _enhanced_agent(dataset: DataSet) -> str:
    item = dataset.first(tags.CONTRAST_AGENT_SEQUENCE)
    return item.label(tags.CODE_MEANING) if item is not None else ""
