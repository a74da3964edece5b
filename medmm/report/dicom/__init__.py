"""Results as DICOM objects of the patient's study: masks, heatmaps, key slices, the PDF, and a structured report.

They are the one output that carries identity, because archives file by it. Each is a new instance of a new series,
marked as research use, and names the instances that it was made from.
"""

from medmm.report.dicom.write import write_dicom

__all__ = ["write_dicom"]
