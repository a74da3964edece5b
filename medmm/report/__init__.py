"""From an explanation to what people and other systems read: pages, files, the cohort page, and table rows."""

from medmm.report.cohort import write_index
from medmm.report.content import CasePaths, CaseReport, build_case_report, explanation_to_dict
from medmm.report.rebuild import read_case_report
from medmm.report.table import csv_cell, refused_row, result_row

__all__ = [
    "CasePaths",
    "CaseReport",
    "build_case_report",
    "csv_cell",
    "explanation_to_dict",
    "read_case_report",
    "refused_row",
    "result_row",
    "write_index",
]
