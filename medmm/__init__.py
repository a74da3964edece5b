"""medmm: from DICOM, reports and records to a calibrated, explained diagnosis. Research software.

Names load on first use, so that importing the package stays cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medmm.cases import read_cases
    from medmm.diagnose import Diagnoser, load_model
    from medmm.dicom.discover import discover
    from medmm.dicom.volume import read_volume
    from medmm.errors import InputError, MedmmError, StopRun, UsageError
    from medmm.report.content import CaseReport
    from medmm.report_reading import read_report
    from medmm.results import Diagnosis, Explanation
    from medmm.types import Case, Record, Report, Volume

__version__ = "0.1.0"

_HOMES = {
    "Case": "medmm.types",
    "CaseReport": "medmm.report.content",
    "Diagnoser": "medmm.diagnose",
    "Diagnosis": "medmm.results",
    "Explanation": "medmm.results",
    "InputError": "medmm.errors",
    "MedmmError": "medmm.errors",
    "Record": "medmm.types",
    "Report": "medmm.types",
    "StopRun": "medmm.errors",
    "UsageError": "medmm.errors",
    "Volume": "medmm.types",
    "discover": "medmm.dicom.discover",
    "load_model": "medmm.diagnose",
    "read_cases": "medmm.cases",
    "read_report": "medmm.report_reading",
    "read_volume": "medmm.dicom.volume",
}

__all__ = [
    "Case",
    "CaseReport",
    "Diagnoser",
    "Diagnosis",
    "Explanation",
    "InputError",
    "MedmmError",
    "Record",
    "Report",
    "StopRun",
    "UsageError",
    "Volume",
    "__version__",
    "discover",
    "load_model",
    "read_cases",
    "read_report",
    "read_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
