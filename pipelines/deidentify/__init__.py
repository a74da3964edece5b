"""De-identified copies of DICOM files and reports, after DICOM PS3.15 Annex E. `run.py` is the whole way."""

from pipelines.deidentify.options import Options
from pipelines.deidentify.run import DeidJob, DeidSummary, deidentify_folder

__all__ = ["DeidJob", "DeidSummary", "Options", "deidentify_folder"]
