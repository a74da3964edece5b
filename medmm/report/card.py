"""A model card's Markdown as blocks that a template writes: text, lists, tables. Marks of emphasis are taken off."""

import re
from dataclasses import dataclass

# What an excerpt shows of one section.
MAX_LETTERS, MAX_ROWS = 900, 12
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


def excerpt(markdown: str) -> CardExcerpt:
    """The beginning of a card's section; a block is shown whole or not at all, except that long ones lose their end.

    >>> excerpt("Data.\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |").blocks[1].rows
    (('a', 'b'), ('1', '2'))
    """
    blocks: list[CardBlock] = []
    letters, is_cut = 0, False
    for part in re.split(r"\n\s*\n", markdown.strip()):
        block, is_whole = _block(part.strip())
        if letters >= MAX_LETTERS:
            return CardExcerpt(tuple(blocks), True)
        blocks.append(block)
        letters += len(part)
        is_cut = is_cut or not is_whole
    return CardExcerpt(tuple(blocks), is_cut)


def _block(part: str) -> tuple[CardBlock, bool]:
    lines = [line.strip() for line in part.splitlines() if line.strip()]
    if lines and all(line.startswith("|") for line in lines):
        rows = [
            tuple(_plain(cell) for cell in line.strip("|").split("|")) for line in lines if not _TABLE_RULE.match(line)
        ]
        return CardBlock(rows=tuple(rows[: MAX_ROWS + 1])), len(rows) <= MAX_ROWS + 1
    if lines and _ITEM.match(lines[0]):
        items: list[str] = []
        for line in lines:
            if _ITEM.match(line):
                items.append(_plain(_ITEM.sub("", line)))
            else:
                items[-1] += " " + _plain(line)
        return CardBlock(lines=tuple(items[:MAX_ROWS]), is_list=True), len(items) <= MAX_ROWS
    text = _plain(" ".join(lines))
    if len(text) <= MAX_LETTERS:
        return CardBlock(lines=(text,)), True
    return CardBlock(lines=(text[:MAX_LETTERS].rpartition(" ")[0] + " …",)), False


def _plain(text: str) -> str:
    return _MARKS.sub("", text).strip()
