"""Cases of a MedPix-shaped folder: what may be read as input, and, apart from it, what is to be predicted.

Most fields of a case give its answer away (discussion, differential, keywords, codes). The only ways from a line of
`cases_<split>.jsonl` into this recipe are `read_inputs`, which knows the fields allowed as input, and `read_targets`,
which knows the labels; nothing else of a line is ever looked at.
"""

import csv
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmm.errors import UsageError

LOCATIONS = (
    "Abdomen",
    "Head",
    "Reproductive and Urinary System",
    "Spine and Muscles",
    "Thorax",
)
SUPERCLASSES = (
    "congenital_genetic",
    "infection",
    "inflammatory_autoimmune",
    "metabolic_toxic_endocrine",
    "neoplasm_benign",
    "neoplasm_cns",
    "neoplasm_malignant",
    "obstructive_degenerative",
    "trauma_iatrogenic",
    "vascular",
)
MODALITIES = ("CT", "MR")
PLANES = ("Axial", "Coronal", "Sagittal")
_SAME_PLANE = {"Transverse": "Axial"}
UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image: its file name, and its caption, which only task T4 may read."""

    file: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseInput:
    """What is known of a case before its diagnosis. Texts are empty where nothing was written."""

    id: str
    age: str
    sex: str
    history: str
    exam: str
    findings: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTarget:
    """Labels of an image, as class indices, -1 where unknown; region and sequence are names, empty where unknown."""

    file: str
    modality: int
    plane: int
    region: str
    sequence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTarget:
    """Labels of a case, as class indices, -1 where unknown or left out; `diagnosis` is a `dx_id`, or empty."""

    id: str
    location: int
    superclass: int
    diagnosis: str
    is_named: bool
    pictures: tuple[PictureTarget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A candidate of task T3: its key and its names, the preferred one first."""

    key: str
    names: tuple[str, ...]


def read_inputs(folder: Path, split: str) -> list[CaseInput]:
    """Return the cases of a split with only the fields that are allowed as input.

    Raises:
        UsageError: `config.table` for a missing file, a line that is no case, or an id that is given twice.
    """
    return [_input(line, number, split) for number, line in _lines(folder, split)]


def read_targets(folder: Path, split: str) -> list[CaseTarget]:
    """Return the labels of a split, in the order of `read_inputs`; a label that is missing or not known is -1 or empty.

    Raises:
        UsageError: `config.table`, as `read_inputs`.
    """
    return [_target(line) for _, line in _lines(folder, split)]


def read_diagnoses(folder: Path) -> list[Diagnosis]:
    """Return the candidates of task T3 from `candidates.csv`.

    Raises:
        UsageError: `config.table` where the file or a column is missing, or a key is given twice.
    """
    path = folder / "candidates.csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
            found = [Diagnosis(key=row["dx_id"], names=_names(row["name"], row["aliases"])) for row in rows]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "Expected candidates.csv in the data folder (it cannot be read).",
            code="config.table",
        ) from error
    except KeyError as error:
        raise UsageError(
            f"Expected the columns dx_id, name, aliases in candidates.csv ({error.args[0]} is missing).",
            code="config.table",
        ) from error
    if not found or len({one.key for one in found}) != len(found):
        raise UsageError("Expected candidates.csv to list every dx_id once.", code="config.table")
    return found


def _lines(folder: Path, split: str) -> Sequence[tuple[int, dict[str, Any]]]:
    path = folder / f"cases_{split}.jsonl"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Expected {path.name} in the data folder (it cannot be read).",
            code="config.table",
        ) from error
    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
        except ValueError as error:
            raise UsageError(f"Expected JSON in line {number} of {path.name}.", code="config.table") from error
        if not isinstance(case, dict) or not isinstance(case.get("id"), str) or not case["id"]:
            raise UsageError(
                f"Expected a case with an id in line {number} of {path.name}.",
                code="config.table",
            )
        found.append((number, case))
    if len({case["id"] for _, case in found}) != len(found):
        raise UsageError(f"Expected every case id once in {path.name}.", code="config.table")
    return found


def _input(case: dict[str, Any], number: int, split: str) -> CaseInput:
    pictures = _pictures(case)
    for one in pictures:
        name = _text(one, "file")
        if not name or Path(name).name != name or name in (".", ".."):
            raise UsageError(
                f"Expected plain file names of images (line {number} of cases_{split}.jsonl has none, or a path).",
                code="config.table",
            )
    return CaseInput(
        id=case["id"],
        age=_text(case, "age"),
        sex=_text(case, "sex"),
        history=_text(case, "history"),
        exam=_text(case, "exam"),
        findings=_text(case, "findings"),
        pictures=tuple(Picture(file=_text(one, "file"), caption=_text(one, "caption")) for one in pictures),
    )


def _target(case: dict[str, Any]) -> CaseTarget:
    return CaseTarget(
        id=case["id"],
        location=_index(LOCATIONS, _text(case, "location_category")),
        superclass=_index(SUPERCLASSES, _text(case, "superclass")),
        diagnosis=_text(case, "dx_id") if case.get("t3_eligible") is True else "",
        is_named=case.get("dx_named_in_text") is True,
        pictures=tuple(
            PictureTarget(
                file=_text(one, "file"),
                modality=_index(MODALITIES, _text(one, "type")),
                plane=_index(PLANES, _SAME_PLANE.get(_text(one, "plane"), _text(one, "plane"))),
                region=_text(one, "location"),
                sequence=_text(one, "modality_text"),
            )
            for one in _pictures(case)
        ),
    )


def _pictures(case: dict[str, Any]) -> list[dict[str, Any]]:
    found = case.get("images")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else UNKNOWN


def _names(name: str, aliases: str | None) -> tuple[str, ...]:
    """As people write them: the table comes from web pages, and some names still hold their entities (`&#39;`)."""
    written = (html.unescape(one).strip() for one in (name, *(aliases or "").split(" | ")))
    return tuple(dict.fromkeys(one for one in written if one))
