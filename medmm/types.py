"""What goes into a diagnosis: volumes, report, record, case. Results live in `results.py`.

Axes are those of the whole package: `C` channels, `I J K` voxel indices that grow to the patient's Right, Anterior and
Superior (RAS+). World coordinates are millimetres in RAS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import numpy as np

Unit = Literal["HU", "a.u."]


class TaskTitles(TypedDict):
    """What people read for a question's name, and for the name of each of its answers."""

    title: str
    classes: dict[str, str]


Titles = Mapping[str, TaskTitles]  # by the question's name


@dataclass(frozen=True, slots=True)
class Note:
    """Something the reader of a result must know: a code of `medmm.errors.CODES` and one sentence."""

    code: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One assembled series. `voxels` is float32 (C, I, J, K) in RAS+; `affine_ras` (4, 4) maps index to mm."""

    voxels: np.ndarray
    affine_ras: np.ndarray
    modality: str
    unit: Unit = "a.u."
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 4 or self.affine_ras.shape != (4, 4):
            raise ValueError(
                f"Expected voxels (C, I, J, K) and affine (4, 4) (got {self.voxels.shape} and {self.affine_ras.shape})."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxel counts (I, J, K)."""
        i, j, k = self.voxels.shape[1:]
        return int(i), int(j), int(k)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths, from the affine so that the two can never disagree."""
        i, j, k = np.linalg.norm(self.affine_ras[:3, :3], axis=0)
        return float(i), float(j), float(k)


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a report: `text[start:end]` of the report it belongs to."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report's text with its sections. Offsets count characters of `text`."""

    text: str
    sections: tuple[Section, ...] = ()
    origin: Literal["text", "sr", "table"] = "text"
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Tabular fields of a case: numbers stay numbers, categories are text, what is missing is not in `values`."""

    values: Mapping[str, float | str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is diagnosed: one patient's volumes by role (`t1`, `flair`, `t1ce`, `ct`, ...), report and record.

    `case_id` is opaque; nothing here holds a path, a DICOM tag or an identifier. `input_hashes` are the SHA-256 of the
    inputs by role, for provenance.
    """

    case_id: str
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    report: Report | None = None
    record: Record | None = None
    notes: tuple[Note, ...] = ()
    input_hashes: Mapping[str, str] = field(default_factory=dict)

    def all_notes(self) -> tuple[Note, ...]:
        """Notes of the case and of everything in it, each once, in order."""
        parts = [*self.volumes.values(), *(part for part in (self.report, self.record) if part is not None)]
        return tuple(dict.fromkeys([*self.notes, *(note for part in parts for note in part.notes)]))
