"""DICOM files of phantom patients: MR Image Storage series and Basic Text SR, as a scanner and a RIS export them."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, BasicTextSRStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medmm.synthetic.anatomy import SPACING_MM
from medmm.synthetic.plan import PlantedCase

# Parameters of usual 1.5 T protocols, milliseconds.
SEQUENCES: dict[str, dict[str, object]] = {
    "t1": {"SeriesDescription": "AX T1 SE PRE", "ScanningSequence": "SE", "RepetitionTime": 550, "EchoTime": 12},
    "flair": {
        "SeriesDescription": "AX T2 FLAIR",
        "ScanningSequence": ["SE", "IR"],
        "RepetitionTime": 9000,
        "EchoTime": 120,
        "InversionTime": 2500,
    },
    "t1ce": {
        "SeriesDescription": "AX T1 SE POST GD",
        "ScanningSequence": "SE",
        "RepetitionTime": 550,
        "EchoTime": 12,
        "ContrastBolusAgent": "Gadolinium-based agent",
    },
}
_SERIES_NUMBERS = {"t1": 2, "flair": 3, "t1ce": 4, "sr": 99}
# Code values of DICOM PS3.16 (TID 2000, CID 7001, CID 7002).
_SR_CODES = {
    "CLINICAL HISTORY": ("121060", "History"),
    "TECHNIQUE": ("121064", "Current Procedure Descriptions"),
    "FINDINGS": ("121070", "Findings"),
    "IMPRESSION": ("121072", "Impressions"),
}


def study_uid(case: PlantedCase, seed: int) -> str:
    """Study Instance UID of a phantom; the same for the same plan."""
    return _uid("study", case.patient_id, seed)


def write_series(
    folder: Path, case: PlantedCase, seed: int, role: str, stored: np.ndarray, affine_ras: np.ndarray
) -> None:
    """Write one MR series, stored values (columns, rows, slices) uint16.

    Every third patient is numbered from superior to inferior, and every other one has file names in no slice order, as
    real exports do: order has to come from Image Position (Patient).
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_ras
    count = stored.shape[2]
    for index in range(count):
        number = count - index if case.index % 3 == 2 else index + 1
        uid = _uid("instance", case.patient_id, seed, role, index)
        dataset = _dataset(case, seed, role, MRImageStorage, uid)
        for name, value in SEQUENCES[role].items():
            setattr(dataset, name, value)
        dataset.Modality, dataset.InstanceNumber = "MR", number
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
        dataset.MRAcquisitionType, dataset.SequenceVariant, dataset.ScanOptions = "2D", "SK", ""
        dataset.MagneticFieldStrength, dataset.EchoTrainLength = 1.5, 1
        _set_geometry(dataset, affine_lps, index)
        _set_pixels(dataset, stored[:, :, index])
        name = f"IM{number:04d}.dcm" if case.index % 2 == 0 else uid.rpartition(".")[2]
        dataset.save_as(folder / name, enforce_file_format=True)


def write_sr(path: Path, case: PlantedCase, seed: int, sections: dict[str, str]) -> None:
    """Write the report as Basic Text SR: a root container with one container per section (PS3.16 TID 2000)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = _dataset(case, seed, "sr", BasicTextSRStorage, _uid("instance", case.patient_id, seed, "sr"))
    dataset.Modality, dataset.InstanceNumber = "SR", 1
    dataset.SeriesDescription = "Radiology report"
    dataset.ContentDate, dataset.ContentTime = dataset.StudyDate, dataset.StudyTime
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ReferencedPerformedProcedureStepSequence = Sequence([])
    dataset.PerformedProcedureCodeSequence = Sequence([])
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = Sequence([_code("18748-4", "LN", "Diagnostic imaging report")])
    dataset.ContentSequence = Sequence([_section(title, text) for title, text in sections.items()])
    dataset.save_as(path, enforce_file_format=True)


def _dataset(case: PlantedCase, seed: int, series: str, sop_class: UID, instance_uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, UID(instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, instance_uid
    dataset.PatientName, dataset.PatientID = f"Phantom^Number {case.index}", case.patient_id
    dataset.PatientSex, dataset.PatientBirthDate = case.sex, ""
    dataset.PatientAge = f"{case.age_years:03d}Y" if case.record_has_age else ""
    dataset.StudyInstanceUID = study_uid(case, seed)
    dataset.SeriesInstanceUID = _uid("series", case.patient_id, seed, series)
    dataset.FrameOfReferenceUID = _uid("frame", case.patient_id, seed)
    dataset.StudyID, dataset.AccessionNumber = str(case.index), ""
    dataset.StudyDate, dataset.StudyTime = f"2020{case.index % 12 + 1:02d}{case.index % 28 + 1:02d}", "101500"
    dataset.StudyDescription, dataset.ReferringPhysicianName = "MRI HEAD", ""
    dataset.SeriesNumber = _SERIES_NUMBERS[series]
    dataset.Manufacturer, dataset.PositionReferenceIndicator = "medmm phantom", ""
    dataset.BodyPartExamined, dataset.PatientPosition = "HEAD", "HFS"
    return dataset


def _set_geometry(dataset: Dataset, affine_lps: np.ndarray, index: int) -> None:
    across, down = (affine_lps[:3, axis] / np.linalg.norm(affine_lps[:3, axis]) for axis in (0, 1))
    dataset.ImageOrientationPatient = [round(float(value), 10) for value in (*across, *down)]
    position = affine_lps @ np.array([0, 0, index, 1.0])
    dataset.ImagePositionPatient = [round(float(value), 6) for value in position[:3]]
    dataset.SliceLocation = round(float(np.cross(across, down) @ position[:3]), 6)
    dataset.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = SPACING_MM[2]


def _set_pixels(dataset: Dataset, stored: np.ndarray) -> None:
    columns, rows = stored.shape
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = np.ascontiguousarray(stored.T, dtype="<u2").tobytes()


def _section(title: str, text: str) -> Dataset:
    value, meaning = _SR_CODES[title]
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Sequence([_code(value, "DCM", meaning)])
    item.TextValue = text
    container = Dataset()
    container.RelationshipType, container.ValueType = "CONTAINS", "CONTAINER"
    container.ContinuityOfContent = "SEPARATE"
    container.ConceptNameCodeSequence = Sequence([_code(value, "DCM", meaning)])
    container.ContentSequence = Sequence([item])
    return container


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _uid(*parts: object) -> str:
    return str(generate_uid(entropy_srcs=["medmm.synthetic", *(str(part) for part in parts)]))
