"""medmm: from DICOM, reports and records to a calibrated, explained diagnosis. Research software."""

__version__ = "0.1.0"
