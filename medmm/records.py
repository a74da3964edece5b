"""Tables keyed by patient or study: records and, in the same form, reports. Ids stay text, whatever they look like.

A table is CSV in UTF-8 (comma, semicolon or tab) with a header. Its key is the first of these columns that is there,
matched without regard to case, spaces and underscores: `study_uid` or `study_instance_uid` (Study Instance UID),
`patient_id` or `patient` (Patient ID), `case`, `case_id` or `id` (either). A row belongs to the study or patient of
exactly that id, outer spaces apart.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medmm.errors import InputError, UsageError
from medmm.types import Note, Record

STUDY_COLUMNS = ("studyuid", "studyinstanceuid")
PATIENT_COLUMNS = ("patientid", "patient")
EITHER_COLUMNS = ("case", "caseid", "id")
KEY_COLUMNS = (*STUDY_COLUMNS, *PATIENT_COLUMNS, *EITHER_COLUMNS)
TEXT_COLUMNS = ("report", "reporttext", "text")
FIELD_NAMES = {"age": "age_years", "ageyears": "age_years", "patientage": "age_years",
               "sex": "sex", "gender": "sex", "patientsex": "sex"}  # fmt: skip
# Columns that name a person never become fields of a record.
IDENTIFYING = frozenset(
    ("name", "patientname", "firstname", "lastname", "surname", "birthdate", "dateofbirth", "dob", "address", "phone",
     "email", "mrn", "ssn", "accession", "accessionnumber", "physician", "institution")
)  # fmt: skip
MISSING = frozenset(("", "na", "n/a", "nan", "none", "null", "unknown", "?", "-"))
AGE_LIMITS_YEARS = (0.0, 120.0)
CELL_LIMIT = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows by id. `key` says what the ids are; `conflicting` holds ids whose rows disagree (never in `rows`)."""

    columns: tuple[str, ...]
    key: Literal["study", "patient", "either"]
    rows: Mapping[str, Mapping[str, str]] = field(repr=False)
    conflicting: frozenset[str] = field(default=frozenset(), repr=False)

    def find(self, *, study_uid: str, patient_id: str) -> "TableRow | None":
        """Return the row of a study, by its own id or its patient's.

        Raises:
            InputError: `identity.conflict` where several rows of that id disagree.
        """
        keys = {"study": (study_uid,), "patient": (patient_id,), "either": (study_uid, patient_id)}[self.key]
        for key in filter(None, (key.strip() for key in keys)):
            if key in self.conflicting:
                raise InputError(
                    "The table has rows for one patient or study that disagree.",
                    code="identity.conflict",
                    remedy="Keep one row per id, or key the table by study UID.",
                )
            if key in self.rows:
                return TableRow(self.rows[key], key, by_patient=key != study_uid)
        return None


@dataclass(frozen=True, slots=True)
class TableRow:
    """The cells of a row by column; `by_patient` when it was found by the patient's id rather than the study's."""

    cells: Mapping[str, str] = field(repr=False)
    key: str = field(repr=False)
    by_patient: bool


def read_table(path: Path, *, needs: Iterable[str] = ()) -> Table:
    """Return the table in `path`.

    Args:
        path: A CSV file.
        needs: Plain column names of which one has to be there.
    Raises:
        UsageError: `config.table` where the file cannot be read or lacks a key column or all of `needs`.
    """
    rows = read_rows(path)
    header = [cell.strip() for cell in rows.pop(0)] if rows else []
    plain = [plain_name(name) for name in header]
    _check_header(header, plain, tuple(needs))
    key_name = next(name for name in KEY_COLUMNS if name in plain)
    key_index = plain.index(key_name)
    found: dict[str, dict[str, str]] = {}
    conflicting: set[str] = set()
    for cells in rows:
        key = cells[key_index].strip() if key_index < len(cells) else ""
        if not key:
            continue
        row = dict(zip(header, cells, strict=False))
        if found.setdefault(key, row) != row:
            conflicting.add(key)
    for key in conflicting:
        del found[key]
    return Table(
        columns=tuple(name for index, name in enumerate(header) if index != key_index),
        key="study" if key_name in STUDY_COLUMNS else "patient" if key_name in PATIENT_COLUMNS else "either",
        rows=found,
        conflicting=frozenset(conflicting),
    )


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file as text, its header first; the delimiter is the one that the header has most of.

    Raises:
        UsageError: `config.table` where the file cannot be opened, is not UTF-8 or not well-formed.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"The table cannot be opened ({error.strerror}).", code="config.table") from None
    except UnicodeDecodeError:
        raise UsageError(
            "Expected a table in UTF-8 (got another encoding).",
            code="config.table",
            remedy="Save it as CSV with UTF-8 encoding.",
        ) from None
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    previous_limit = csv.field_size_limit(CELL_LIMIT)
    try:
        reader = csv.reader(io.StringIO(text.replace("\0", ""), newline=""), delimiter=delimiter, strict=True)
        return [cells for cells in reader if cells]
    except csv.Error as error:
        raise UsageError(
            f"The table is not well-formed CSV ({error}).",
            code="config.table",
            remedy="Check quotes; cells with line breaks need quotes around them.",
        ) from None
    finally:
        csv.field_size_limit(previous_limit)


def text_of(row: Mapping[str, str]) -> str:
    """The report text in a row of a table of reports; empty where there is none."""
    return next((cell for name, cell in row.items() if plain_name(name) in TEXT_COLUMNS), "")


def record_of(row: Mapping[str, str], columns: Iterable[str]) -> Record:
    """Return a row as a record: numbers become numbers, missing cells are left out, impossible ages are dropped."""
    values: dict[str, float | str] = {}
    notes: list[Note] = []
    for column in columns:
        name = FIELD_NAMES.get(plain_name(column), column)
        cell = row.get(column, "").strip()
        if plain_name(column) in IDENTIFYING or cell.lower() in MISSING:
            continue
        try:
            values[name] = parse_value(name, cell)
        except ValueError:
            notes.append(Note("record.value", f"The record's {printable(name)!r} is not possible and was left out."))
    return Record(values=values, notes=tuple(notes))


def parse_value(name: str, cell: str) -> float | str:
    """Return a cell as a number where it is one, else as text; sex becomes F or M.

    Raises:
        ValueError: For an age outside 0-120 years, a sex that is neither, or a number that is not finite.
    """
    if name == "sex":
        return _sex(cell)
    try:
        number = float(cell.replace(",", ".") if cell.count(",") == 1 else cell)
    except ValueError:
        if name == "age_years":
            raise
        return cell
    low, high = AGE_LIMITS_YEARS
    if not math.isfinite(number) or (name == "age_years" and not low <= number <= high):
        raise ValueError("out of range")
    return number


def plain_name(column: str) -> str:
    """A column name in lower case without spaces, underscores and hyphens."""
    return "".join(character for character in column.lower() if character not in " _-")


def printable(text: str, limit: int = 60) -> str:
    """`text` without control characters, shortened: safe in one line of a log."""
    return "".join(character if character.isprintable() else " " for character in text)[:limit]


def _sex(cell: str) -> str:
    letter = cell[:1].upper()
    if cell.upper() in ("F", "M", "FEMALE", "MALE", "WOMAN", "MAN", "W"):
        return "F" if letter in ("F", "W") else "M"
    raise ValueError("not a sex")


def _check_header(header: list[str], plain: list[str], needs: tuple[str, ...]) -> None:
    if not set(plain) & set(KEY_COLUMNS):
        raise UsageError(
            f"Expected a key column (patient_id or study_uid) in the table (got {len(header)} others).",
            code="config.table",
            remedy="Name the column that holds the patient id `patient_id`, or use `study_uid`.",
        )
    if needs and not set(plain) & set(needs):
        raise UsageError(
            f"Expected a column named {' or '.join(needs)} in the table.",
            code="config.table",
            remedy="Rename the column that holds it.",
        )
    repeated = len(plain) != len(set(plain))
    if repeated:
        raise UsageError(
            "Expected each column of the table once (some names repeat).",
            code="config.table",
            remedy="Rename or remove the repeated columns.",
        )
