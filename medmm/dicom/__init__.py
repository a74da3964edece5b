"""DICOM in: find the series of a folder, read each into a `medmm.types.Volume`, safely and fast."""

from medmm.dicom.discover import discover
from medmm.dicom.types import AcquisitionHeader, Discovery, Series, Skipped, Study

__all__ = ["AcquisitionHeader", "Discovery", "Series", "Skipped", "Study", "discover"]
