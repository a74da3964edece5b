"""A picture of evidence paths, as SVG, PNG or HTML: findings left, the diagnosis right, every claim with its source.

Each path has a lane of its own, so that no line runs behind a box and no label lies on another. An arrow leads from a
claim's subject to its object, whichever way the path goes.
"""

import io
import textwrap
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from kg.evidence import EvidencePath, Hop

BOX_WIDTH, BOX_HEIGHT = 210, 44
GAP_X, GAP_Y, MARGIN = 250, 22, 24
BEND, HEAD = 36, 9  # what a line needs to change lanes, and the length of an arrow's head
PADDING, LINE_HEIGHT = 10, 17
_LETTERS_A_LINE, _CAPITALS_A_LINE = 25, 20  # of 13 pixels, for any of the fonts a picture may be shown in
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1c2733}.small{font-size:10.5px;fill:#51606f}"
    "rect{fill:#fff;stroke:#8aa0b4;stroke-width:1.2}.start rect{fill:#eaf2fb;stroke:#2f6fab}"
    ".end rect{fill:#fdf1e3;stroke:#c26a12}polyline{fill:none;stroke:#8aa0b4;stroke-linejoin:round}"
    "polygon{fill:#8aa0b4}"
)
_SCALE = 2
_INK, _PALE, _LINE = "#1c2733", "#51606f", "#8aa0b4"
# Fill and edge by role; the same as in the style above.
_ROLE_COLORS = {
    "start": ("#eaf2fb", "#2f6fab"),
    "middle": ("#ffffff", "#8aa0b4"),
    "end": ("#fdf1e3", "#c26a12"),
}


class _Box(NamedTuple):
    x: float
    y: float
    name: str
    role: str


class _Wire(NamedTuple):
    """A claim as a line: its corners from left to right, the corners of its arrow's head, and its label's middle."""

    line: list[tuple[float, float]]
    head: list[tuple[float, float]]
    label: str
    label_at: tuple[float, float]
    thickness: float


def draw_svg(paths: Sequence[EvidencePath], title: str = "Evidence") -> str:
    """Return an SVG picture; all labels are escaped, thickness shows a path's score. Empty input gives a sentence."""
    boxes, wires, width, height = _layout(paths)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
    ]
    if not paths:
        parts.append(f'<text x="{MARGIN}" y="{height / 2}">No path in the graph.</text>')
    parts += [_draw_wire(wire) for wire in wires]
    parts += [_draw_box(box) for box in boxes]
    return "".join([*parts, "</svg>"])


def draw_html(paths: Sequence[EvidencePath], title: str = "Evidence") -> str:
    """Return one self-contained page with the picture and the claims as a table; no scripts, nothing from outside."""
    rows = "".join(
        f"<tr><td>{path.score:.3f}</td><td>{escape(hop.subject_name)}</td><td>{escape(hop.predicate)}</td>"
        f"<td>{escape(hop.object_name)}</td><td>{escape(hop.source)} {escape(hop.source_version)}</td>"
        f"<td>{hop.trust:.2f}</td></tr>"
        for path in paths
        for hop in path.hops
    )
    head = "".join(f"<th>{name}</th>" for name in ("score", "subject", "predicate", "object", "source", "trust"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>body{{font:15px system-ui,sans-serif;margin:2em}}"
        "svg{max-width:100%;height:auto}"  # a long chain is wider than a screen
        "table{border-collapse:collapse}td,th{padding:.3em .7em;text-align:left}</style>"
        f"<h1>{escape(title)}</h1>{draw_svg(paths, title)}<table><tr>{head}</tr>{rows}</table>"
        "<p>Research use. Statements are those of the named sources.</p></html>"
    )


def draw_png(paths: Sequence[EvidencePath], title: str = "Evidence") -> bytes:
    """Return the picture as a PNG file's bytes, twice as fine as the SVG's units; the title is kept in its metadata."""
    from PIL import Image, ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    boxes, wires, width, height = _layout(paths)
    picture = Image.new("RGB", (_SCALE * width, _SCALE * height), "white")
    draw = ImageDraw.Draw(picture)
    font, small = ImageFont.load_default(13 * _SCALE), ImageFont.load_default(10.5 * _SCALE)
    if not paths:
        draw.text((MARGIN * _SCALE, _SCALE * height / 2), "No path in the graph.", _INK, font)
    for wire in wires:
        draw.line(_scaled(wire.line), _LINE, round(_SCALE * wire.thickness), joint="curve")
        draw.polygon(_scaled(wire.head), _LINE)
        draw.text(_scaled([wire.label_at])[0], wire.label, _PALE, small, anchor="ms")
    for box in boxes:
        fill, edge = _ROLE_COLORS[box.role]
        corners = _scaled([(box.x, box.y), (box.x + BOX_WIDTH, box.y + BOX_HEIGHT)])
        draw.rounded_rectangle(corners, 6 * _SCALE, fill, edge, _SCALE)
        for x, baseline, text in _written(box):
            draw.text(_scaled([(x, baseline)])[0], text, _INK, font, anchor="ls")
    about, stream = PngInfo(), io.BytesIO()
    about.add_itxt("Title", title)
    picture.save(stream, "PNG", pnginfo=about)
    return stream.getvalue()


def _label(hop: Hop) -> str:
    return f"{hop.predicate.partition(':')[2].replace('_', ' ')} · {hop.source}"


def _written(box: _Box) -> list[tuple[float, float, str]]:
    """The one or two lines of a box's name, each with where it begins: x and baseline. Its title has the whole name."""
    letters = _CAPITALS_A_LINE if box.name.isupper() else _LETTERS_A_LINE
    lines = textwrap.wrap(box.name, letters, max_lines=2, placeholder=" …")
    first = box.y + BOX_HEIGHT / 2 + 5 - LINE_HEIGHT / 2 * (len(lines) - 1)
    return [(box.x + PADDING, first + at * LINE_HEIGHT, line) for at, line in enumerate(lines)]


def _layout(paths: Sequence[EvidencePath]) -> tuple[list[_Box], list[_Wire], int, int]:
    """Boxes in columns and lines in lanes, with the width and height of the whole."""
    starts = list(dict.fromkeys(path.start for path in paths))
    laned = sorted(paths, key=lambda path: starts.index(path.start))  # stable: best first for each finding
    column, depth = _columns(paths)
    ends = {path.end for path in paths}
    names = {curie: name for path in paths for curie, name in _names(path)}
    height = {concept: _height(concept, laned, is_middle=concept not in {*starts, *ends}) for concept in column}
    boxes: dict[str, _Box] = {}
    lowest = dict.fromkeys(range(depth + 1), float("-inf"))
    for concept in sorted(column, key=lambda one: (height[one], names[one], one)):
        place = column[concept]
        lowest[place] = y = max(height[concept], lowest[place] + BOX_HEIGHT + GAP_Y)
        role = "end" if concept in ends else "start" if place == 0 else "middle"
        boxes[concept] = _Box(MARGIN + place * (BOX_WIDTH + GAP_X), y, names[concept], role)
    best = max((path.score for path in paths), default=1.0)
    wires: dict[tuple[str, str, str], _Wire] = {}
    for path in paths:
        middle = _lane(laned.index(path)) + BOX_HEIGHT / 2
        for hop in path.hops:
            wire = _wire(hop, boxes[hop.subject], boxes[hop.object], middle, 1 + 3 * path.score / best)
            wires.setdefault((hop.subject, hop.predicate, hop.object), wire)
    width = 2 * MARGIN + (depth + 1) * BOX_WIDTH + depth * GAP_X
    bottom = max([_lane(len(laned) - 1), *lowest.values()], default=0) + BOX_HEIGHT if paths else BOX_HEIGHT
    return list(boxes.values()), list(wires.values()), width, round(bottom + MARGIN)


def _columns(paths: Sequence[EvidencePath]) -> tuple[dict[str, int], int]:
    """The column of each concept, its longest distance from the starts of its paths, and the last column."""
    column: dict[str, int] = {}
    for path in paths:
        at = path.start
        column.setdefault(at, 0)
        for step, hop in enumerate(path.hops, start=1):
            at = hop.object if at == hop.subject else hop.subject
            column[at] = max(column.get(at, 0), step)
    depth = max(column.values(), default=0)
    return column | dict.fromkeys((path.end for path in paths), depth), depth


def _names(path: EvidencePath) -> list[tuple[str, str]]:
    return [pair for hop in path.hops for pair in ((hop.subject, hop.subject_name), (hop.object, hop.object_name))]


def _height(concept: str, laned: Sequence[EvidencePath], *, is_middle: bool) -> float:
    """Where a box would stand: in the first of its paths' lanes; in the middle of them at either end."""
    lanes = [_lane(at) for at, path in enumerate(laned) if any(concept == one for one, _ in _names(path))]
    return lanes[0] if is_middle else sum(lanes) / len(lanes)


def _lane(at: int) -> float:
    return MARGIN + at * (BOX_HEIGHT + GAP_Y)


def _wire(hop: Hop, subject: _Box, target: _Box, lane: float, thickness: float) -> _Wire:
    """The line of a claim: out of the left box, along its lane, into the right box."""
    left, right = sorted((subject, target), key=lambda box: box.x)
    first, last = (left.x + BOX_WIDTH, left.y + BOX_HEIGHT / 2), (right.x, right.y + BOX_HEIGHT / 2)
    turn = last[0] - BEND
    if left.x == right.x:  # two of one column: out of both on the right
        last, turn = (right.x + BOX_WIDTH, last[1]), first[0] + BEND
    line = [first, (first[0] + BEND, lane), (turn, lane), last]
    x, y = last if target is right else first
    back = HEAD if x == left.x + BOX_WIDTH else -HEAD
    head = [(x, y), (x + back, y - HEAD / 2), (x + back, y + HEAD / 2)]
    return _Wire(line, head, _label(hop), ((line[1][0] + turn) / 2, lane - 6), thickness)


def _scaled(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(_SCALE * x, _SCALE * y) for x, y in points]


def _draw_box(box: _Box) -> str:
    lines = "".join(f'<text x="{x:g}" y="{y:g}">{escape(text)}</text>' for x, y, text in _written(box))
    return (
        f'<g class="{box.role}"><title>{escape(box.name)}</title><rect x="{box.x}" y="{box.y}" rx="6" '
        f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/>{lines}</g>'
    )


def _draw_wire(wire: _Wire) -> str:
    line, head = (" ".join(f"{x:g},{y:g}" for x, y in points) for points in (wire.line, wire.head))
    x, y = wire.label_at
    return (
        f'<polyline points="{line}" stroke-width="{wire.thickness:.2f}"/><polygon points="{head}"/>'
        f'<text class="small" text-anchor="middle" x="{x:g}" y="{y:g}">{escape(wire.label)}</text>'
    )
