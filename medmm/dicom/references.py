"""The source instances of a volume as results must name them, and the way from the volume's grid back to their pixels.

Identity passes here and nowhere else on its way out: a DICOM result belongs to the patient's study, so a few attributes
of patient and study are read from the source files when it is written. Nothing is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.plan import ReadPlan
from medmm.dicom.types import Instance, Series
from medmm.dicom.volume import check_series
from medmm.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

# Attributes of the Patient and General Study modules that results repeat (PS3.3, C.7.1.1 and C.7.2.1): what an archive
# files by, and no more.
OF_STUDY = (
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName"),
    *(
        "StudyDescription",
        "PatientAge",
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "LongitudinalTemporalInformationModified",
    ),
)
_OF_IMAGE = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber"),
    *("Modality", "FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "Rows", "Columns"),
    *("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
    *("DimensionOrganizationSequence", "ImageType", "BurnedInAnnotation", "BodyPartExamined", "LossyImageCompression"),
    *("LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
# Type 2: there, but possibly empty.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *("StudyID", "ReferringPhysicianName"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStack:
    """The instances behind one volume: headers without pixels, one per slice in the order of their positions.

    A multi-frame instance is there once and its frames keep their order.
    """

    datasets: "tuple[Dataset, ...]"
    plan: ReadPlan
    frame_order: tuple[int, ...]

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """Values (I, J, K) on the volume's grid as (slices, rows, columns) of the source.

        Raises:
            InputError: `output.source` if the grid is not that of the source.
        """
        canonical = self.plan.canonical
        slices, rows, columns = self.plan.buffer_shape
        expected = tuple((columns, rows, slices)[axis] for axis in canonical.axis_of)
        if values.shape != expected:
            raise _cannot(f"its grid has {expected} voxels and the result {values.shape}")
        turned = values.transpose(tuple(int(axis) for axis in np.argsort(canonical.axis_of))).transpose(2, 1, 0)
        return np.ascontiguousarray(self.plan.view(turned)[list(self.frame_order)])

    def slice_at(self, axis: int, index: int) -> int | None:
        """Which of `datasets` slice `index` along axis 0-2 of the volume is; None if slices do not lie along it."""
        canonical = self.plan.canonical
        if canonical.axis_of[axis] != 2 or len(self.datasets) != len(self.plan.slices):
            return None
        return len(self.plan.slices) - 1 - index if canonical.is_flipped[2] else index


def read_source(series: Series, limits: Limits = DEFAULT_LIMITS) -> SourceStack:
    """Return the source of a volume; headers are read again, no pixels.

    Raises:
        InputError: `output.source` for sources that a result cannot refer to voxel by voxel (mosaics, several
            multi-frame files, no position or frame of reference); `io.changed`; what `check_series` raises.
    """
    plan = check_series(series, gaps="resample", limits=limits)
    if plan.geometry.gaps_mm:
        raise _cannot("its slices are not evenly spaced, so that the volume has another grid")
    if not plan.geometry.has_geometry:
        raise _cannot("it states no position")
    if any(piece.frame.tile is not None for piece in plan.slices):
        raise _cannot("several slices share one image (mosaic)")
    instances = list({id(piece.instance): piece.instance for piece in plan.slices}.values())
    order = list(range(len(plan.slices)))
    if len(instances) != len(plan.slices):
        if len(instances) != 1 or len(instances[0].frames) != len(plan.slices):
            raise _cannot("it is a part of a multi-frame series")
        frames = [piece.frame.index for piece in plan.slices]
        order = sorted(order, key=frames.__getitem__)
    datasets = tuple(_read_headers(instances))
    if not all(dataset.get("FrameOfReferenceUID") for dataset in datasets):
        raise _cannot("it names no frame of reference, (0020,0052)")
    return SourceStack(datasets=datasets, plan=plan, frame_order=tuple(order))


def read_identity(series: Series) -> "Dataset":
    """Return whose study a series is of: the attributes of its first file that results repeat, no pixels.

    Raises:
        InputError: `io.changed`.
    """
    return next(_read_headers([series.slices[0].instance]))


def _read_headers(instances: list[Instance]) -> "Iterator[Dataset]":
    from pydicom import dcmread

    for instance in instances:
        try:
            status = instance.path.stat()
            header = dcmread(instance.path, stop_before_pixels=True, force=True, specific_tags=[*OF_STUDY, *_OF_IMAGE])
        except OSError:
            raise InputError("A source file can no longer be read.", code="io.changed") from None
        if (status.st_size, status.st_mtime_ns) != (instance.size, instance.mtime_ns):
            raise InputError("A source file changed since it was found.", code="io.changed")
        yield _cleaned(header)


def _cleaned(header: "Dataset") -> "Dataset":
    """Only the attributes of the lists, in UTF-8; identity that the standard does not allow is left out."""
    from pydicom import Dataset

    header.decode()
    clean = Dataset()
    for keyword in _OF_IMAGE:
        if keyword in header:
            clean.add(header[keyword])
    for keyword in OF_STUDY:
        if keyword in header and _is_valid(header[keyword]):
            clean.add(header[keyword])
    for keyword in _MAY_BE_EMPTY:
        if keyword not in clean:
            setattr(clean, keyword, "")
    if clean.PatientSex not in ("M", "F", "O", ""):
        clean.PatientSex = ""
    clean.SpecificCharacterSet = "ISO_IR 192"
    return clean


def _is_valid(element: Any) -> bool:
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    try:
        validate_value(element.VR, str(element.value), RAISE)
    except ValueError:
        return False
    return element.VM <= 1


def _cannot(why: str) -> InputError:
    return InputError(
        f"A DICOM result cannot refer to this series: {why}.",
        code="output.source",
        remedy="Leave the DICOM formats out for it (--formats html,json,nii).",
    )
