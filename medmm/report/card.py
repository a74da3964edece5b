"""A model card's Markdown as blocks that a template writes: text, lists, tables. Marks of emphasis are taken off."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_LETTERS = 900  # what an excerpt shows of one section
MAX_ROWS = 24  # of all tables of a card together: its first is of the results
MAX_ITEMS = 12  # of one list
_TABLE_RULE = re.compile(r"^\|[\s:|-]+\|$")
_ITEM = re.compile(r"^[-*]\s+")
_MARKS = re.compile(r"\*\*|`|^#+\s*")


@dataclass(frozen=True, slots=True)
class CardBlock:
    """A paragraph (one line), a list (a line an item) or a table (`rows`, its first row the heading)."""

    lines: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class CardExcerpt:
    """The first blocks of a section, and whether there is more."""

    blocks: tuple[CardBlock, ...]
    is_cut: bool


def excerpts(sections: Mapping[str, str]) -> dict[str, CardExcerpt]:
    """The beginning of each section by title; once the rows of tables are used up, later tables are left out."""
    found, rows_left = {}, MAX_ROWS
    for title, text in sections.items():
        found[title] = excerpt(text, rows_left)
        rows_left -= sum(len(block.rows) - 1 for block in found[title].blocks if block.rows)
    return found


def excerpt(markdown: str, rows_left: int = MAX_ROWS) -> CardExcerpt:
    """The beginning of a card's section; long blocks lose their end.

    >>> excerpt("Data.\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |").blocks[1].rows
    (('a', 'b'), ('1', '2'))
    """
    blocks: list[CardBlock] = []
    letters, is_cut = 0, False
    for part in re.split(r"\n\s*\n", markdown.strip()):
        if letters >= MAX_LETTERS:
            return CardExcerpt(tuple(blocks), True)
        block, is_whole = _block(part.strip(), rows_left)
        if block is not None:
            blocks.append(block)
            rows_left -= max(len(block.rows) - 1, 0)
        letters += len(part)
        is_cut = is_cut or not is_whole
    return CardExcerpt(tuple(blocks), is_cut)


def _block(part: str, rows_left: int) -> tuple[CardBlock | None, bool]:
    """A block and whether it is whole; None for a table that there is no room for."""
    lines = [line.strip() for line in part.splitlines() if line.strip()]
    if lines and all(line.startswith("|") for line in lines):
        rows = [
            tuple(_plain(cell) for cell in line.strip("|").split("|")) for line in lines if not _TABLE_RULE.match(line)
        ]
        shown = CardBlock(rows=tuple(rows[: rows_left + 1])) if rows_left > 0 else None
        return shown, len(rows) <= rows_left + 1
    if lines and _ITEM.match(lines[0]):
        items: list[str] = []
        for line in lines:
            if _ITEM.match(line):
                items.append(_plain(_ITEM.sub("", line)))
            else:
                items[-1] += " " + _plain(line)
        return CardBlock(lines=tuple(items[:MAX_ITEMS]), is_list=True), len(items) <= MAX_ITEMS
    text = _plain(" ".join(lines))
    if len(text) <= MAX_LETTERS:
        return CardBlock(lines=(text,)), True
    return CardBlock(lines=(text[:MAX_LETTERS].rpartition(" ")[0] + " …",)), False


def _plain(text: str) -> str:
    return _MARKS.sub("", text).strip()
