"""A picture of evidence paths, as SVG, PNG or HTML: findings left, the diagnosis right, every claim with its source."""

import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from kg.evidence import EvidencePath, Hop

BOX_WIDTH, BOX_HEIGHT = 210, 44
GAP_X, GAP_Y, MARGIN = 150, 22, 24
MAX_LABEL = 30
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1c2733}.small{font-size:10.5px;fill:#51606f}"
    "rect{fill:#fff;stroke:#8aa0b4;stroke-width:1.2}.start rect{fill:#eaf2fb;stroke:#2f6fab}"
    ".end rect{fill:#fdf1e3;stroke:#c26a12}path{fill:none;stroke:#8aa0b4}"
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


def draw_svg(paths: Sequence[EvidencePath], title: str = "Evidence") -> str:
    """Return an SVG picture; all labels are escaped, thickness shows a path's score. Empty input gives a sentence."""
    boxes, width, height = _layout(paths)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
    ]
    if not paths:
        parts.append(f'<text x="{MARGIN}" y="{height / 2}">No path in the graph.</text>')
    best = max((path.score for path in paths), default=1.0)
    for hop, score in _claims(paths):
        parts.append(_arrow(boxes[hop.subject], boxes[hop.object], _label(hop), 1 + 3 * score / best))
    parts += [_draw_box(box) for box in boxes.values()]
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
        "table{border-collapse:collapse}td,th{padding:.3em .7em;text-align:left}</style>"
        f"<h1>{escape(title)}</h1>{draw_svg(paths, title)}<table><tr>{head}</tr>{rows}</table>"
        "<p>Research use. Statements are those of the named sources.</p></html>"
    )


def draw_png(paths: Sequence[EvidencePath], title: str = "Evidence") -> bytes:
    """Return the picture as a PNG file's bytes, twice as fine as the SVG's units; the title is kept in its metadata."""
    from PIL import Image, ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    boxes, width, height = _layout(paths)
    picture = Image.new("RGB", (_SCALE * width, _SCALE * height), "white")
    draw = ImageDraw.Draw(picture)
    font, small = ImageFont.load_default(13 * _SCALE), ImageFont.load_default(10.5 * _SCALE)
    if not paths:
        draw.text((MARGIN * _SCALE, _SCALE * height / 2), "No path in the graph.", _INK, font)
    best = max((path.score for path in paths), default=1.0)
    for hop, score in _claims(paths):
        x1, y1, x2, y2 = (_SCALE * value for value in _ends(boxes[hop.subject], boxes[hop.object]))
        draw.line((x1, y1, x2, y2), _LINE, round(_SCALE * (1 + 3 * score / best)))
        at = ((x1 + x2) / 2, (y1 + y2) / 2 - 6 * _SCALE)
        draw.text(at, _label(hop), _PALE, small, anchor="ms", stroke_width=2 * _SCALE, stroke_fill="white")
    for box in boxes.values():
        fill, edge = _ROLE_COLORS[box.role]
        corner = (_SCALE * box.x, _SCALE * box.y, _SCALE * (box.x + BOX_WIDTH), _SCALE * (box.y + BOX_HEIGHT))
        draw.rounded_rectangle(corner, 6 * _SCALE, fill, edge, _SCALE)
        draw.text((corner[0] + 10 * _SCALE, (corner[1] + corner[3]) / 2), _short(box.name), _INK, font, anchor="lm")
    about, stream = PngInfo(), io.BytesIO()
    about.add_itxt("Title", title)
    picture.save(stream, "PNG", pnginfo=about)
    return stream.getvalue()


def _claims(paths: Sequence[EvidencePath]) -> list[tuple[Hop, float]]:
    """Each claim once, with the score of the best path that holds it."""
    found: dict[tuple[str, str, str], tuple[Hop, float]] = {}
    for path in paths:
        for hop in path.hops:
            found.setdefault((hop.subject, hop.predicate, hop.object), (hop, path.score))
    return list(found.values())


def _label(hop: Hop) -> str:
    return f"{hop.predicate.partition(':')[2].replace('_', ' ')} · {hop.source}"


def _short(name: str) -> str:
    return name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"


def _layout(paths: Sequence[EvidencePath]) -> tuple[dict[str, _Box], int, int]:
    """Boxes by concept in columns: a concept stands at its longest distance from the starts of its paths."""
    column: dict[str, int] = {}
    names: dict[str, str] = {}
    for path in paths:
        at = path.start
        column.setdefault(at, 0)
        for step, hop in enumerate(path.hops, start=1):
            names |= {hop.subject: hop.subject_name, hop.object: hop.object_name}
            at = hop.object if at == hop.subject else hop.subject
            column[at] = max(column.get(at, 0), step)
    depth = max(column.values(), default=0)
    ends = {path.end for path in paths}
    column |= dict.fromkeys(ends, depth)
    rows: dict[int, int] = {}
    boxes = {}
    for concept in sorted(column, key=lambda one: (column[one], names[one], one)):
        place = column[concept]
        row = rows.get(place, 0)
        rows[place] = row + 1
        role = "end" if concept in ends else "start" if place == 0 else "middle"
        x, y = MARGIN + place * (BOX_WIDTH + GAP_X), MARGIN + row * (BOX_HEIGHT + GAP_Y)
        boxes[concept] = _Box(x, y, names[concept], role)
    width = 2 * MARGIN + (depth + 1) * BOX_WIDTH + depth * GAP_X
    height = 2 * MARGIN + max(rows.values(), default=1) * (BOX_HEIGHT + GAP_Y)
    return boxes, width, height


def _draw_box(box: _Box) -> str:
    return (
        f'<g class="{box.role}"><title>{escape(box.name)}</title><rect x="{box.x}" y="{box.y}" rx="6" '
        f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/><text x="{box.x + 10}" y="{box.y + BOX_HEIGHT / 2 + 5}">'
        f"{escape(_short(box.name))}</text></g>"
    )


def _arrow(subject: _Box, target: _Box, label: str, thickness: float) -> str:
    x1, y1, x2, y2 = _ends(subject, target)
    middle = (x1 + x2) / 2
    return (
        f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}" stroke-width="{thickness:.2f}"/>'
        f'<text class="small" text-anchor="middle" x="{middle}" y="{(y1 + y2) / 2 - 6}">{escape(label)}</text>'
    )


def _ends(subject: _Box, target: _Box) -> tuple[float, float, float, float]:
    """Where a line between two boxes starts and ends: x, y on the left, then x, y on the right."""
    left, right = sorted((subject, target), key=lambda box: box.x)
    start = left.x + BOX_WIDTH
    stop = start if left.x == right.x else right.x
    return start, left.y + BOX_HEIGHT / 2, stop, right.y + BOX_HEIGHT / 2
