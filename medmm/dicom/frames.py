"""The slices inside one file: one of a classic image, many of an enhanced object or a Siemens mosaic."""

import math

from medmm.dicom import tags
from medmm.dicom.attributes import DataSet, bad_value, missing
from medmm.dicom.csa import read_csa_values
from medmm.dicom.types import AcquisitionHeader, Frame, PixelFormat, Vector

_UNIT_TOLERANCE = 1e-3  # of the direction cosines' length and of their scalar product
_CSA_NAMES = frozenset({"NumberOfImagesInMosaic", "SliceNormalVector"})


def read_frames(dataset: DataSet, header: AcquisitionHeader, pixels: PixelFormat) -> tuple[Frame, ...]:
    """Return the slices of a file with geometry, rescale and the values that tell them apart.

    Raises:
        InputError: dicom.missing_tag or dicom.bad_value, naming the tag.
    """
    if tags.PER_FRAME_GROUPS in dataset or tags.SHARED_GROUPS in dataset:
        return _enhanced(dataset, pixels)
    frame = Frame(
        position=_position(dataset),
        orientation=_orientation(dataset),
        spacing=_spacing(dataset),
        slope=_slope(dataset),
        intercept=_intercept(dataset),
        keys=_classic_keys(dataset, header),
    )
    if "MOSAIC" in header.image_type and pixels.frames == 1 and tags.CSA_IMAGE_HEADER in dataset:
        return _mosaic(dataset, header, pixels, frame)
    if pixels.frames == 1:
        return (frame,)
    if header.sop_class_uid.startswith(("1.2.840.10008.5.1.4.1.1.2.", "1.2.840.10008.5.1.4.1.1.4.")):
        raise missing(tags.PER_FRAME_GROUPS)
    # Frames without functional groups: nothing says where they lie.
    return tuple(
        Frame(index=n, spacing=frame.spacing, slope=frame.slope, intercept=frame.intercept, keys=frame.keys)
        for n in range(pixels.frames)
    )


def _position(dataset: DataSet) -> Vector:
    values = dataset.numbers(tags.POSITION)
    if values and len(values) != 3:
        raise bad_value(tags.POSITION, "three values", f"{len(values)}")
    return values


def _orientation(dataset: DataSet) -> Vector:
    values = dataset.numbers(tags.ORIENTATION)
    if not values:
        return ()
    if len(values) != 6:
        raise bad_value(tags.ORIENTATION, "six values", f"{len(values)}")
    row, column = values[:3], values[3:]
    lengths = (math.hypot(*row), math.hypot(*column))
    dot = sum(a * b for a, b in zip(row, column, strict=True))
    if any(abs(length - 1) > 10 * _UNIT_TOLERANCE for length in lengths) or abs(dot) > 10 * _UNIT_TOLERANCE:
        raise bad_value(tags.ORIENTATION, "two perpendicular unit vectors", "something else")
    return values


def _spacing(dataset: DataSet) -> Vector:
    values = dataset.numbers(tags.PIXEL_SPACING)
    if not values:
        return ()
    if len(values) != 2:
        raise bad_value(tags.PIXEL_SPACING, "two values", f"{len(values)}")
    if min(values) <= 0:
        raise bad_value(tags.PIXEL_SPACING, "positive values", "zero or less")
    return values


def _slope(dataset: DataSet) -> float:
    value = dataset.number(tags.RESCALE_SLOPE)
    if value == 0:
        raise bad_value(tags.RESCALE_SLOPE, "a slope other than 0", "0")
    return 1.0 if value is None else value


def _intercept(dataset: DataSet) -> float:
    value = dataset.number(tags.RESCALE_INTERCEPT)
    return 0.0 if value is None else value


def _classic_keys(dataset: DataSet, header: AcquisitionHeader) -> tuple[tuple[str, str], ...]:
    """What may tell two slices at one place apart, most specific first (see `split.py`)."""
    b_value = header.b_value
    if b_value is None:
        b_value = _private_b_value(dataset, header.manufacturer.upper())
    found: list[tuple[str, str]] = []
    image_type = "/".join(value for value in header.image_type[2:] if value)
    if image_type:
        found.append(("image type", image_type))
    for name, value in (("echo", header.echo_number), ("echo time", header.te_ms), ("b-value", b_value)):
        if value is not None:
            found.append((name, f"{value:g}"))
    for name, tag in (
        ("time point", tags.TEMPORAL_POSITION),
        ("trigger time", tags.TRIGGER_TIME),
        ("inversion time", tags.INVERSION_TIME),
        ("flip angle", tags.FLIP_ANGLE),
        ("kernel", tags.CONVOLUTION_KERNEL),
        ("acquisition", tags.ACQUISITION_NUMBER),
        ("acquisition time", tags.ACQUISITION_TIME),
        ("content time", tags.CONTENT_TIME),
    ):
        text = dataset.text(tag)
        if text:
            found.append((name, text))
    return tuple(found)


def _private_b_value(dataset: DataSet, manufacturer: str) -> float | None:
    """The b-value where older software of the three large vendors keeps it."""
    if "SIEMENS" in manufacturer:
        return dataset.lenient_number(tags.B_VALUE_SIEMENS)
    if manufacturer.startswith("GE"):
        value = dataset.lenient_number(tags.B_VALUE_GE)
        return None if value is None else value % 100_000  # newer GE software adds a billion
    return dataset.lenient_number(tags.B_VALUE_PHILIPS)


def _mosaic(dataset: DataSet, header: AcquisitionHeader, pixels: PixelFormat, whole: Frame) -> tuple[Frame, ...]:
    """Tiles of a Siemens mosaic as slices.

    The stated position is that of the corner of the whole mosaic, as if the slice had its size; the true corner lies
    half the difference further in. Source: the nibabel project's description of the format (dicom_mosaic).
    """
    values = read_csa_values(dataset.raw(tags.CSA_IMAGE_HEADER), _CSA_NAMES)
    try:
        count = int(values["NumberOfImagesInMosaic"][0])
        normal = tuple(float(value) for value in values["SliceNormalVector"])
    except (KeyError, IndexError, ValueError):
        raise bad_value(tags.CSA_IMAGE_HEADER, "a tile count and a slice normal", "none") from None
    across = math.ceil(math.sqrt(count)) if count > 0 else 0
    if not (across and len(normal) == 3 and pixels.rows % across == 0 and pixels.columns % across == 0):
        raise bad_value(tags.CSA_IMAGE_HEADER, "a tile count that fits the image", "another")
    for tag, value in (
        (tags.POSITION, whole.position),
        (tags.ORIENTATION, whole.orientation),
        (tags.PIXEL_SPACING, whole.spacing),
    ):
        if not value:
            raise missing(tag)
    step = header.spacing_between_slices_mm or header.slice_thickness_mm
    if not step or step <= 0:
        raise missing(tags.SPACING_BETWEEN_SLICES)
    rows, columns = pixels.rows // across, pixels.columns // across
    shift_x = (pixels.columns - columns) / 2 * whole.spacing[1]
    shift_y = (pixels.rows - rows) / 2 * whole.spacing[0]
    corner = [whole.position[n] + whole.orientation[n] * shift_x + whole.orientation[3 + n] * shift_y for n in range(3)]
    return tuple(
        Frame(
            position=tuple(corner[n] + normal[n] * step * tile for n in range(3)),
            orientation=whole.orientation,
            spacing=whole.spacing,
            slope=whole.slope,
            intercept=whole.intercept,
            tile=((tile // across) * rows, (tile % across) * columns, rows, columns),
            keys=whole.keys,
        )
        for tile in range(count)
    )


def _enhanced(dataset: DataSet, pixels: PixelFormat) -> tuple[Frame, ...]:
    """Slices of an enhanced object: each attribute from the frame's own group, else from the shared one."""
    shared = dataset.first(tags.SHARED_GROUPS)
    per_frame = dataset.items(tags.PER_FRAME_GROUPS)
    if not per_frame:
        raise missing(tags.PER_FRAME_GROUPS)
    if len(per_frame) != pixels.frames:
        raise bad_value(tags.PER_FRAME_GROUPS, f"{pixels.frames} items", f"{len(per_frame)}")
    frames = []
    for index, own in enumerate(per_frame):
        plane = _group(own, shared, tags.PLANE_POSITION_SEQUENCE)
        orientation = _group(own, shared, tags.PLANE_ORIENTATION_SEQUENCE)
        measures = _group(own, shared, tags.PIXEL_MEASURES_SEQUENCE)
        rescale = _group(own, shared, tags.PIXEL_VALUE_TRANSFORMATION_SEQUENCE) or dataset
        frame = Frame(
            index=index,
            position=_position(plane) if plane else (),
            orientation=_orientation(orientation) if orientation else (),
            spacing=_spacing(measures) if measures else (),
            slope=_slope(rescale),
            intercept=_intercept(rescale),
            keys=_enhanced_keys(dataset, own, shared),
        )
        for tag, value in (
            (tags.POSITION, frame.position),
            (tags.ORIENTATION, frame.orientation),
            (tags.PIXEL_SPACING, frame.spacing),
        ):
            if not value:
                raise missing(tag)
        frames.append(frame)
    return tuple(frames)


def _group(own: DataSet, shared: DataSet | None, tag: int) -> DataSet | None:
    found = own.first(tag)
    return found if found is not None else (shared.first(tag) if shared is not None else None)


def _enhanced_keys(dataset: DataSet, own: DataSet, shared: DataSet | None) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    content = _group(own, shared, tags.FRAME_CONTENT_SEQUENCE)
    kind = _group(own, shared, tags.MR_IMAGE_FRAME_TYPE_SEQUENCE) or _group(
        own, shared, tags.CT_IMAGE_FRAME_TYPE_SEQUENCE
    )
    if kind is not None:
        words = [*kind.texts(tags.FRAME_TYPE)[2:], kind.text(tags.COMPLEX_IMAGE_COMPONENT)]
        found.append(("image type", "/".join(word for word in words if word)))
    else:
        found.append(("image type", "/".join(word for word in dataset.texts(tags.IMAGE_TYPE)[2:] if word)))
    for name, group, tag in (
        ("echo time", tags.MR_ECHO_SEQUENCE, tags.EFFECTIVE_ECHO_TIME),
        ("b-value", tags.MR_DIFFUSION_SEQUENCE, tags.B_VALUE),
    ):
        item = _group(own, shared, group)
        value = item.lenient_number(tag) if item is not None else None
        if value is not None:
            found.append((name, f"{value:g}"))
    if content is not None:
        stack = content.text(tags.STACK_ID)
        if stack:
            found.append(("stack", stack))
        time = content.lenient_number(tags.TEMPORAL_POSITION_INDEX)
        if time is not None:
            found.append(("time point", f"{time:g}"))
        dimensions = content.raw(tags.DIMENSION_INDEX_VALUES)
        if dimensions:
            values = content.numbers(tags.DIMENSION_INDEX_VALUES)
            found += [(f"dimension {n + 1}", f"{value:g}") for n, value in enumerate(values)]
    return tuple(found)
