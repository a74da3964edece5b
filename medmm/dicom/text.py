"""Structured reports (SR) as plain text: headings from the containers, then their text items, in document order."""

from pathlib import Path

from medmm.dicom import syntaxes, tags
from medmm.dicom.attributes import DataSet, decode_text
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.source import NotDicomError, read_header
from medmm.errors import InputError

# Who dictated and where is identity or routing, not content (PS3.16 TID 1001 and 1204 hang them in as such).
_CONTENT_RELATIONS = frozenset({"CONTAINS", "HAS PROPERTIES", "INFERRED FROM", ""})


def read_sr_text(path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return the text of a structured report: a heading line a container, then its items; blocks are set apart.

    Text, codes and measurements are kept; people, dates, references to images and observation context are not.

    Raises:
        InputError: report.format when the file is no SR; the codes of `read_header` otherwise.
    """
    try:
        opened = read_header(Path(path), limits)
    except NotDicomError as error:
        raise InputError(f"Expected a DICOM structured report ({error}).", code="report.format") from None
    sop_class = opened.dataset.text(tags.SOP_CLASS_UID) or opened.media_class
    if sop_class not in syntaxes.TEXT_REPORTS:
        raise InputError("Expected a DICOM structured report (got another object).", code="report.format")
    blocks: list[str] = []
    for item in opened.dataset.items(tags.CONTENT_SEQUENCE):
        _write(item, "", blocks)
    return "\n\n".join(blocks)


def _write(item: DataSet, heading: str, blocks: list[str]) -> None:
    """Append the blocks of one content item; an item named like its heading does not repeat it."""
    if item.text(tags.RELATIONSHIP_TYPE) not in _CONTENT_RELATIONS:
        return
    name, kind = _meaning(item, tags.CONCEPT_NAME_SEQUENCE), item.text(tags.VALUE_TYPE)
    if kind == "CONTAINER":
        inner: list[str] = []
        for child in item.items(tags.CONTENT_SEQUENCE):
            _write(child, name, inner)
        if inner and name:
            inner[0] = f"{name}:\n{inner[0]}"
        blocks += inner
        return
    value = _value(item, kind)
    if value:
        is_named = name and not _same(name, heading)
        blocks.append(f"{name}:\n{value}" if is_named and kind == "TEXT" else f"{name}: {value}" if is_named else value)
    for child in item.items(tags.CONTENT_SEQUENCE):
        _write(child, name, blocks)


def _value(item: DataSet, kind: str) -> str:
    if kind == "TEXT":
        text = decode_text(item.raw(tags.TEXT_VALUE), item.charsets)
        return text.replace("\r\n", "\n").replace("\r", "\n").strip(" \0\n\t")
    if kind == "CODE":
        return _meaning(item, tags.CONCEPT_CODE_SEQUENCE)
    if kind == "NUM":
        measured = item.first(tags.MEASURED_VALUE_SEQUENCE)
        if measured is None:
            return ""
        units = measured.first(tags.MEASUREMENT_UNITS_SEQUENCE)
        return (
            f"{measured.text(tags.NUMERIC_VALUE)} {units.label(tags.CODE_MEANING) if units is not None else ''}".strip()
        )
    return ""


def _meaning(item: DataSet, tag: int) -> str:
    code = item.first(tag)
    return code.label(tags.CODE_MEANING) if code is not None else ""


def _same(name: str, heading: str) -> bool:
    """Finding under Findings, Impression under Impressions: the heading is already there."""
    return name.lower().rstrip("s") == heading.lower().rstrip("s")
