"""The PDF inside a DICOM object, so that an archive keeps it with the study (PS3.3, A.45)."""

from typing import TYPE_CHECKING

from medmm.report.dicom.study import ResultStudy, long_string, new_uid

if TYPE_CHECKING:
    from pydicom import Dataset


def encapsulated_pdf(study: ResultStudy, pages: bytes) -> "Dataset":
    """The PDF as an instance of the patient's study.

    Args:
        study: The case and its source.
        pages: The bytes of the PDF file.
    """
    from highdicom.sr import CodedConcept
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

    document = Dataset()
    identity, equipment = study.series("epdf"), study.equipment()
    document.SpecificCharacterSet = "ISO_IR 192"
    document.SOPClassUID = EncapsulatedPDFStorage
    document.SOPInstanceUID = new_uid()
    document.Modality = "DOC"
    document.SeriesInstanceUID = identity["series_instance_uid"]
    document.SeriesNumber = identity["series_number"]
    document.SeriesDescription = identity["series_description"]
    document.Manufacturer = equipment["manufacturer"]
    document.ManufacturerModelName = equipment["manufacturer_model_name"]
    document.DeviceSerialNumber = equipment["device_serial_number"]
    document.SoftwareVersions = equipment["software_versions"]
    document.ConversionType = "WSD"
    document.InstanceNumber = 1
    document.InstanceCreationDate = document.ContentDate = study.created.strftime("%Y%m%d")
    document.InstanceCreationTime = document.ContentTime = study.created.strftime("%H%M%S")
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "YES" if study.is_burned_in() else "NO"
    document.DocumentTitle = long_string(f"medmm report {study.report.content.case_id} (research use only)")
    document.ConceptNameCodeSequence = [CodedConcept("18748-4", "LN", "Diagnostic imaging study")]
    document.SourceInstanceSequence = [_reference(item) for item in study.datasets]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocument = pages + b"\0" * (len(pages) % 2)
    document.EncapsulatedDocumentLength = len(pages)
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return document


def _reference(source: "Dataset") -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item
