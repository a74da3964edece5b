"""What discovery finds: studies, their series, the slices of each, and the files that are no input.

Everything is frozen and holds plain values only, so that it crosses process borders and fits into an index on disk.
Positions and orientations are DICOM's own (LPS, millimetres); `geometry.py` turns them into RAS.
"""

from dataclasses import dataclass, field
from pathlib import Path

from medmm.types import Note

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not used. `code` is empty for what is no input of ours, else a code of `medmm.errors.CODES`."""

    path: Path
    reason: str
    code: str = ""
    series_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionHeader:
    """How a series was acquired: what tells one MR sequence from another. Nothing here identifies a person."""

    modality: str = ""
    sop_class_uid: str = ""
    manufacturer: str = ""
    description: str = ""
    protocol_name: str = ""
    series_number: int | None = None
    image_type: tuple[str, ...] = ()
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    sequence_name: str = ""
    contrast_agent: str = ""
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    flip_angle_deg: float | None = None
    echo_number: int | None = None
    b_value: float | None = None
    field_strength_t: float | None = None
    gantry_tilt_deg: float | None = None
    convolution_kernel: str = ""
    body_part: str = ""
    patient_position: str = ""
    frame_of_reference_uid: str = ""
    slice_thickness_mm: float | None = None
    spacing_between_slices_mm: float | None = None
    rescale_type: str = ""
    has_rescale: bool = False
    has_burned_in_annotation: bool = False
    lossy_method: str = ""
    lossy_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How the pixels of a file are encoded. `word` is the attribute: pixel, float or double."""

    transfer_syntax: str
    rows: int
    columns: int
    samples: int = 1
    photometric: str = "MONOCHROME2"
    bits_allocated: int = 16
    bits_stored: int = 16
    high_bit: int = 15
    is_signed: bool = False
    is_planar: bool = False
    frames: int = 1
    word: str = "pixel"
    is_explicit: bool = True
    is_big_endian: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One slice of a file: where it lies and what tells it from others at the same place.

    `tile` is (row, column, rows, columns) of the slice inside a mosaic image. `keys` are (name, value) pairs such as
    ("echo", "2"); `slope` and `intercept` are the modality transformation.
    """

    index: int = 0
    position: Vector = ()
    orientation: Vector = ()
    spacing: Vector = ()
    slope: float = 1.0
    intercept: float = 0.0
    tile: tuple[int, int, int, int] | None = None
    keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One image file: identity, encoding, slices. `size` and `mtime_ns` tell whether the file changed since."""

    path: Path
    size: int
    mtime_ns: int
    sop_uid: str
    number: int | None
    header: AcquisitionHeader
    pixels: PixelFormat
    pixel_offset: int
    pixel_length: int  # -1: encapsulated
    frames: tuple[Frame, ...]
    modality_lut: tuple[int, tuple[int, ...]] | None = None  # first mapped value, table
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame of one instance."""

    instance: Instance
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One volume to be: the slices of a SeriesInstanceUID that belong together.

    A SeriesInstanceUID that holds several volumes (echoes, time points...) appears once for each, with `split_key`
    saying which and `volume_count` how many there are. `defects` are files of the series that could not be used.
    """

    series_uid: str
    study_uid: str
    modality: str
    description: str
    header: AcquisitionHeader
    slices: tuple[Slice, ...] = field(repr=False)
    split_key: str = ""
    volume_count: int = 1
    notes: tuple[Note, ...] = ()
    defects: tuple[Skipped, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the slices, each once, in the order of the slices."""
        return tuple(dict.fromkeys(piece.instance.path for piece in self.slices))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReport:
    """A structured report (SR) of a study that can serve as its report text; `is_final` when marked complete."""

    path: Path
    sop_uid: str
    content_date: str
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One patient study. Identity is here and nowhere further down; `age_years` and `sex` are None when unknown."""

    study_uid: str
    patient_id: str
    patient_name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    description: str = ""
    age_years: float | None = None
    sex: str | None = None
    series: tuple[Series, ...] = ()
    reports: tuple[TextReport, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Everything found under a folder: studies in order of their UID, and each file that is not used, with why."""

    studies: tuple[Study, ...]
    skipped: tuple[Skipped, ...]
