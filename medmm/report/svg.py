"""Geometry of the report's drawings (bars and evidence paths); the templates write the marks."""

import unicodedata
from dataclasses import dataclass

from medmm.report.document import HopPart, PathPart
from medmm.report.texts import Texts

BAR_WIDTH = 200.0
PATH_WIDTH = 340
_LINE_CELLS = 38  # half-width characters in a box
_LINE_PX, _PADDING_PX, _ARROW_PX = 18, 9, 58


@dataclass(frozen=True, slots=True)
class Bar:
    """A signed bar around a zero line, in units of `BAR_WIDTH`."""

    x: float
    width: float
    is_positive: bool


def signed_bar(value: float, largest: float) -> Bar:
    """A bar as long as `value` is against `largest` (of absolute values), right of the middle for positive ones."""
    width = round(abs(value) / largest * BAR_WIDTH / 2, 2) if largest > 0 else 0.0
    return Bar(x=BAR_WIDTH / 2 if value >= 0 else round(BAR_WIDTH / 2 - width, 2), width=width, is_positive=value >= 0)


def bar_width(fraction: float) -> float:
    """Length of a bar for a probability."""
    return round(min(max(fraction, 0.0), 1.0) * BAR_WIDTH, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathBox:
    """A concept of a path: its box and the lines of its name."""

    y: int
    height: int
    lines: tuple[str, ...]
    line_y: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathArrow:
    """An edge of a path between two boxes, pointing along the stated relation, with two lines of text."""

    y_from: int
    y_to: int
    predicate: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathDrawing:
    """An evidence path from top to bottom: narrow enough for a phone, several side by side on a desk."""

    height: int
    boxes: tuple[PathBox, ...]
    arrows: tuple[PathArrow, ...]


def draw_path(path: PathPart, texts: Texts) -> PathDrawing:
    """The drawing of a path; an edge that is walked backwards keeps its arrow head at the object."""
    boxes: list[PathBox] = []
    arrows: list[PathArrow] = []
    y = 1
    for number, name in enumerate(walk_names(path)):
        lines = _wrap(name)
        height = 2 * _PADDING_PX + _LINE_PX * len(lines)
        line_y = tuple(y + _PADDING_PX + 14 + _LINE_PX * row for row in range(len(lines)))
        boxes.append(PathBox(y=y, height=height, lines=lines, line_y=line_y))
        y += height
        if number < len(path.hops):
            arrows.append(_arrow(path.hops[number], y, texts))
            y += _ARROW_PX
    return PathDrawing(height=y + 1, boxes=tuple(boxes), arrows=tuple(arrows))


def walk_names(path: PathPart) -> list[str]:
    """The concepts' names in the order of the walk."""
    names = []
    for number, hop in enumerate(path.hops):
        start, end = (hop.subject_name, hop.object_name) if hop.is_forward else (hop.object_name, hop.subject_name)
        names += [start, end] if number == 0 else [end]
    return names


def _arrow(hop: HopPart, y: int, texts: Texts) -> PathArrow:
    ends = (y + 2, y + _ARROW_PX - 2)
    y_from, y_to = ends if hop.is_forward else ends[::-1]
    origin = f"{hop.source} {hop.source_version} · {hop.trust:.2f}"
    return PathArrow(y_from=y_from, y_to=y_to, predicate=_fit(predicate_of(hop, texts)), origin=_fit(origin))


def predicate_of(hop: HopPart, texts: Texts) -> str:
    """The predicate for people: without the prefix of its vocabulary."""
    return texts.known("predicate", hop.predicate.rpartition(":")[2].replace("_", " "))


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _fit(text: str) -> str:
    if _cells(text) <= _LINE_CELLS:
        return text
    kept = text
    while _cells(kept) > _LINE_CELLS - 1:
        kept = kept[:-1]
    return kept + "…"


def _wrap(name: str) -> tuple[str, ...]:
    """At most two lines; the text beside the drawing has the full name."""
    if _cells(name) <= _LINE_CELLS:
        return (name,)
    words, first = name.split(), ""
    while words and _cells(f"{first} {words[0]}".strip()) <= _LINE_CELLS:
        first = f"{first} {words.pop(0)}".strip()
    if not first:
        first = _fit(name)
        return (first,)
    return (first, _fit(" ".join(words)))
