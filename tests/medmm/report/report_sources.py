"""DICOM series under the volumes of the example case, cut along another axis where asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medmm.dicom import Series, discover
from medmm.results import Explanation

Cut = Literal["axial", "sagittal"]
PATIENT = {"PatientID": "MRN-4711", "PatientName": "Muster^Erika", "PatientBirthDate": "19610203", "PatientSex": "F"}
STUDY = {
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1",
    "StudyDate": "20200102",
    "StudyTime": "101500",
    "AccessionNumber": "A-7",
    "StudyID": "7",
    "ReferringPhysicianName": "Arzt^Adam",
    "StudyDescription": "MRI HEAD",
}
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NAMES = {"t1": "AX T1 SE PRE", "flair": "AX T2 FLAIR"}


@dataclass(frozen=True)
class SourceFolder:
    """A study on disk and its series by role."""

    folder: Path
    series: dict[str, Series]


def write_sources(folder: Path, explanation: Explanation, cut: Cut = "axial", **changes: object) -> SourceFolder:
    """Write the volumes of the case as MR series; `changes` replace attributes of every file."""
    for role, volume in explanation.case.volumes.items():
        for number in range(volume.shape[2 if cut == "axial" else 0]):
            dataset = _slice(role, number)
            _place(dataset, volume.voxels[0], volume.affine_ras, number, cut)
            for keyword, value in changes.items():
                setattr(dataset, keyword, value)
            place = folder / role / f"{number:03d}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(place, enforce_file_format=True)
    found = discover(folder).studies[0].series
    return SourceFolder(folder, {role: next(s for s in found if s.description == _NAMES[role]) for role in _NAMES})


def _slice(role: str, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["report test", role, str(number)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in {**PATIENT, **STUDY}.items():
        setattr(dataset, keyword, value)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["report test", role])
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = "1.2.826.0.1.3680043.8.498.2", ""
    dataset.Modality, dataset.SeriesDescription = "MR", _NAMES[role]
    dataset.SeriesNumber, dataset.InstanceNumber = 1 + list(_NAMES).index(role), number + 1
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions, dataset.MRAcquisitionType = (
        "SE",
        "SK",
        "",
        "2D",
    )
    dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = 12, 550, 1
    dataset.ImageType, dataset.Manufacturer, dataset.BodyPartExamined = ["ORIGINAL", "PRIMARY", "M"], "test", "HEAD"
    dataset.InstitutionName, dataset.PatientAddress = "Klinik am Park", "Weg 1"
    return dataset


def _place(dataset: FileDataset, voxels: np.ndarray, affine_ras: np.ndarray, number: int, cut: Cut) -> None:
    """Pixels and position of slice `number`, rows and columns as a scanner has them (to the left, back and feet)."""
    i, j, k = voxels.shape
    spacing = np.linalg.norm(affine_ras[:3, :3], axis=0)
    if cut == "axial":
        pixels, corner = voxels[::-1, ::-1, number].T, (i - 1, j - 1, number)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        rows_mm, columns_mm, apart_mm = spacing[1], spacing[0], spacing[2]
    else:
        pixels, corner = voxels[number, ::-1, ::-1].T, (number, j - 1, k - 1)
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        rows_mm, columns_mm, apart_mm = spacing[2], spacing[1], spacing[0]
    dataset.PixelSpacing = [float(rows_mm), float(columns_mm)]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = float(apart_mm)
    dataset.ImagePositionPatient = [float(value) for value in (_TO_LPS @ affine_ras @ np.array([*corner, 1.0]))[:3]]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = np.ascontiguousarray(np.rint(pixels), dtype="<u2").tobytes()
