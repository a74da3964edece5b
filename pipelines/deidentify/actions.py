"""The action table: what becomes of each attribute, read from the data files of this package."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import IO, Literal

from pipelines.deidentify.options import COLUMNS, Options

Action = Literal["remove", "empty", "replace", "uid", "keep", "clean", "shift"]

TEXT_VRS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})
DATE_VRS = frozenset({"DA", "DT", "TM"})
NUMBER_VRS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"})
# Attributes of bulk bytes that an image cannot do without; other bulk bytes outside the table are removed.
BULK = frozenset(
    {
        0x7FE00010, 0x7FE00008, 0x7FE00009, 0x7FE00001, 0x7FE00002,  # pixels and their offset tables
        0x00281201, 0x00281202, 0x00281203, 0x00281204, 0x00281221, 0x00281222, 0x00281223,  # palettes
        0x00283006, 0x00281408, 0x00660016, 0x00281101, 0x00281102, 0x00281103,  # lookup tables
        0x00280106, 0x00280107, 0x00280120, 0x00280121, 0x00283002,  # pixel values and LUT descriptors
    }
)  # fmt: skip
_BASIC: dict[str, Action] = {
    "X": "remove",
    "Z": "empty",
    "X/Z": "empty",
    "D": "replace",
    "Z/D": "replace",
    "X/D": "replace",
    "X/Z/D": "replace",
    "U": "uid",
    "X/Z/U*": "uid",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attribute of the table: `tag` as eight hex digits (`XX` for repeating groups), `columns` by name."""

    tag: str
    name: str
    basic: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTable:
    """The table with options applied. Ask it by tag and value representation."""

    actions: Mapping[int, Action]
    kept_text: Mapping[int, Action]
    has_shifted_dates: bool

    def action(self, tag: int, vr: str) -> Action:
        """Return what to do with an attribute; what neither file knows is kept only if it cannot hold free text."""
        group = tag >> 16
        if group & 1 or group & 0xFF00 == 0x5000 or group & 0xFF00 == 0x6000:
            return "remove"  # private attributes, curves, overlays
        if tag in self.actions:
            return self.actions[tag]
        return self._unlisted(tag, vr)

    def _unlisted(self, tag: int, vr: str) -> Action:
        if vr == "UI":
            return "uid"
        if vr in DATE_VRS:
            return "shift" if self.has_shifted_dates else "remove"
        if vr in TEXT_VRS:
            return self.kept_text.get(tag, "remove")
        if vr in ("SQ", "CS", "DS", "IS") or vr in NUMBER_VRS or tag in BULK:
            return "keep"
        return "remove"


@cache
def build_table(options: Options) -> ActionTable:
    """Return the action of every listed attribute under `options`."""
    switched = tuple(column for name, column in COLUMNS.items() if getattr(options, name))
    return ActionTable(
        actions={int(row.tag, 16): resolve(row, switched) for row in read_rows() if "X" not in row.tag},
        kept_text=_kept_text(),
        has_shifted_dates=options.shift_dates,
    )


def resolve(row: Row, columns: tuple[str, ...]) -> Action:
    """Return the action of a row with the option `columns` switched on; keeping wins over cleaning."""
    found = {row.columns[name]: name for name in columns if row.columns[name]}
    if "K" in found:
        return "keep"
    if "C" in found:
        return "shift" if row.columns["dates"] and "dates" in columns else "clean"
    return _BASIC[row.basic]


@cache
def read_rows() -> tuple[Row, ...]:
    """Return the rows of `actions.csv` in order of tags."""
    with _open("actions.csv") as stream:
        return tuple(
            Row(
                tag=line["tag"],
                name=line["name"],
                basic=line["basic"],
                columns={name: line[name] for name in COLUMNS.values()},
            )
            for line in csv.DictReader(stream)
        )


@cache
def _kept_text() -> Mapping[int, Action]:
    from pydicom.datadict import tag_for_keyword

    found: dict[int, Action] = {}
    with _open("kept_text.csv") as stream:
        for line in csv.DictReader(stream):
            tag = tag_for_keyword(line["keyword"])
            if tag is not None:
                found[int(tag)] = "clean" if line["how"] == "clean" else "keep"
    return found


def read_list(name: str) -> frozenset[str]:
    """Return the words of a list of this package, lower case, comments left out."""
    with _open(name) as stream:
        return frozenset(word for line in stream if not line.startswith("#") for word in line.lower().split())


def _open(name: str) -> IO[str]:
    return resources.files("pipelines.deidentify").joinpath(name).open(encoding="utf-8")
