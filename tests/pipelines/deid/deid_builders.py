"""Small DICOM images with an identity, made in memory."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

KEY = bytes(range(32))
PIXELS = np.arange(64, dtype="<u2").reshape(8, 8)


def make_image(number: int = 0, **values: object) -> FileDataset:
    """An 8 x 8 MR slice of patient P1; slices of one series differ in `number`."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.4.{number}")
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, f"1.2.3.4.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
    dataset.PatientName, dataset.PatientID, dataset.PatientSex, dataset.PatientAge = "Doe^Jane", "P1", "F", "093Y"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20200103", "101112", "MR"
    dataset.Manufacturer, dataset.ImageType, dataset.InstanceNumber = "ACME", ["ORIGINAL", "PRIMARY"], number + 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 2.5 * number], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.9, 0.9], 2.5
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = (PIXELS + number).tobytes()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write a data set as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
