"""The ledger of a run: which cases are done, with their rows. Append-only; a line counts once it is on the disk whole.

One line is `<16 hex digits> <JSON>`: the digits are the start of the JSON's SHA-256, so that a torn, mixed or edited
line is recognised, ignored and counted, and its case done again. The first line says which run this is; the
others are case entries. Results tables are rebuilt from the ledger, never appended to.
"""

import errno
import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from medmm.errors import StopRun
from medmm.types import Titles

logger = logging.getLogger(__name__)

VERSION = 1
FILE_NAME = "ledger.jsonl"
CHECK_DIGITS = 16

Status = Literal["ok", "warn", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What makes results comparable, inputs apart. `parts` are compared one by one, to say what differs."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of all parts."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()

    def differences(self, other: "Fingerprint") -> tuple[str, ...]:
        """Names of the parts that are not the same."""
        names = sorted({*self.parts, *other.parts})
        return tuple(name for name in names if self.parts.get(name) != other.parts.get(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How one case ended. `stamp` tells cheaply whether its input files changed; `inputs` are their content hashes.

    `row` are the cells of the results table, `outputs` the sizes of the written files by name, `failure` the cells of
    the failures table of a refused case.
    """

    case_id: str
    status: Status
    stamp: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict)
    failure: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """What a ledger says: the run's fingerprint (None where there is none), the last entry of each case, defects.

    `titles` are the last that were written: what people read for the names of questions and answers.
    """

    fingerprint: Fingerprint | None = None
    entries: Mapping[str, Entry] = field(default_factory=dict)
    planned: frozenset[str] = frozenset()
    titles: Titles = field(default_factory=dict)
    ignored_lines: int = 0


class Ledger:
    """A ledger open for appending. Use as a context manager; each `add` is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1

    def __enter__(self) -> Self:
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(self._handle).st_size
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            self._write(b"\n")  # what was torn stays an ignored line of its own
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def begin(self, fingerprint: Fingerprint, titles: Titles) -> None:
        """Say which run this is, and what people read for the names of its questions and answers."""
        self._append({"kind": "run", "version": VERSION, "parts": dict(fingerprint.parts), "titles": titles})

    def plan(self, case_ids: tuple[str, ...]) -> None:
        """Say which cases were found."""
        self._append({"kind": "plan", "cases": list(case_ids)})

    def add(self, entry: Entry) -> None:
        """Say how a case ended; everything it wrote must be on the disk already."""
        self._append(
            {
                "kind": "case",
                "case": entry.case_id,
                "status": entry.status,
                "stamp": entry.stamp,
                "inputs": dict(entry.inputs),
                "row": dict(entry.row),
                "outputs": dict(entry.outputs),
                "failure": dict(entry.failure),
                "notes": [list(note) for note in entry.notes],
            }
        )

    def _append(self, values: Mapping[str, Any]) -> None:
        body = json.dumps(values, ensure_ascii=True, allow_nan=False)
        self._write(f"{_check(body)} {body}\n".encode("ascii"))

    def _write(self, content: bytes) -> None:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            os.fsync(self._handle)
        except OSError as error:
            raise stop_if_full(error, len(content)) from error


def read_ledger(path: Path) -> LedgerState:
    """Return what a ledger says; lines that do not check are ignored and counted."""
    fingerprint: Fingerprint | None = None
    entries: dict[str, Entry] = {}
    planned: frozenset[str] = frozenset()
    titles: Titles = {}
    ignored = 0
    if not path.exists():
        return LedgerState()
    with path.open("rb") as stream:
        for line in stream:
            values = _parse(line)
            if values is None:
                ignored += bool(line.strip())
            elif values["kind"] == "run" and values.get("version") == VERSION:
                fingerprint = Fingerprint(parts=values["parts"])
                titles = values.get("titles", {})
            elif values["kind"] == "plan":
                planned = frozenset(values["cases"])
            elif values["kind"] == "case":
                entries[values["case"]] = _entry(values)
            else:
                ignored += 1
    if ignored:
        logger.warning("%d lines of the ledger are damaged or of another version; their cases are done again.", ignored)
    return LedgerState(fingerprint=fingerprint, entries=entries, planned=planned, titles=titles, ignored_lines=ignored)


def stop_if_full(error: OSError, size_bytes: int) -> StopRun | OSError:
    """Return `StopRun` for a full disk or exhausted quota, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        needed = f" ({size_bytes} bytes needed)" if size_bytes else ""
        return StopRun(
            f"No space left in the output folder{needed}.",
            code="disk.full",
            remedy="Make space, then run the same command with --resume.",
        )
    return error


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        return None
    check, _, body = text.partition(" ")
    if not text.endswith("\n") or _check(body[:-1]) != check:
        return None
    values = json.loads(body, object_pairs_hook=_share)
    return values if isinstance(values, dict) and "kind" in values else None


def _share(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose texts are shared with those of other lines: most are the same in every case."""
    return {sys.intern(name): sys.intern(value) if type(value) is str else value for name, value in pairs}


def _entry(values: Mapping[str, Any]) -> Entry:
    return Entry(
        case_id=values["case"],
        status=values["status"],
        stamp=values["stamp"],
        inputs=values["inputs"],
        row=values["row"],
        outputs=values["outputs"],
        failure=values["failure"],
        notes=tuple((code, message) for code, message in values["notes"]),
    )


def _check(body: str) -> str:
    return hashlib.sha256(body.encode("ascii")).hexdigest()[:CHECK_DIGITS]
