"""Small DICOM files for tests, written with pydicom: an axial CT or MR slice, and ways to break it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

STUDY_UID = generate_uid(entropy_srcs=["medmm", "study"])
SERIES_UID = generate_uid(entropy_srcs=["medmm", "series"])


def slice_pixels(number: int, rows: int = 6, columns: int = 8) -> np.ndarray:
    """Values that differ in every pixel and slice, uint16."""
    return (np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns) + 100 * number).astype(np.uint16)


def make_slice(number: int = 0, *, modality: str = "CT", pixels: np.ndarray | None = None, **tags: Any) -> Dataset:
    """An axial slice at z = 2.5 mm x number; `tags` set attributes by keyword, None removes them."""
    stored = slice_pixels(number) if pixels is None else pixels
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["medmm", str(number)])
    dataset.Modality = modality
    dataset.PatientID, dataset.PatientName = "P1", "Doe^Jane"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, SERIES_UID
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [-10.0, -20.0, 30.0 + 2.5 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.5, 0.75]
    dataset.SliceThickness = 2.5
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if stored.ndim == 2 else "RGB"
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = stored.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken values are the point
        for keyword, value in tags.items():
            if value is None:
                if keyword in dataset:
                    delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
    return dataset


def write(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a data set as a DICOM file, without checks."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    dataset.file_meta = meta
    if "PixelData" in dataset:
        width = "OB" if dataset.get("BitsAllocated") == 8 or meta.TransferSyntaxUID.is_compressed else "OW"
        dataset["PixelData"].VR = width
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, count: int = 5, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> list[Path]:
    """Write slices 0 to count - 1; a callable tag is called with the slice number."""
    paths = []
    for number in range(count):
        own = {name: value(number) if callable(value) else value for name, value in tags.items()}
        paths.append(write(make_slice(number, **own), folder / f"IM{number:04d}.dcm", syntax))
    return paths


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit VR little endian attribute as bytes, with a length of choice."""
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
    size = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF"):
        return head + b"\0\0" + size.to_bytes(4, "little") + value
    return head + size.to_bytes(2, "little") + value


def insert_before_pixels(path: Path, extra: bytes) -> Path:
    """Put raw attribute bytes right before Pixel Data of an explicit little endian file."""
    raw = path.read_bytes()
    at = raw.rindex(b"\xe0\x7f\x10\x00")
    path.write_bytes(raw[:at] + extra + raw[at:])
    return path
