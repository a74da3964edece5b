"""Reports in: bytes or text to a `Report` with sections. What a report means is the linker's business (`kg`).

Rules, in this order:
    * kind: PDF, archives (DOCX), images, RTF and HTML are refused and named; DICOM is read as a structured report;
    * decoding: a byte order mark decides; else UTF-8; else UTF-16 where every other byte is NUL; else Windows-1252;
      everything but UTF-8 is noted;
    * cleaning: CRLF and CR become LF; NUL and other control characters are dropped, noted; offsets count what is left;
    * length: `MAX_CHARACTERS` are kept, noted;
    * a report without content (no letters, blanks to fill in, "see previous report") keeps its text and is noted as
      `report.empty`; cases treat it as missing.
"""

import re
from pathlib import Path

from medmm.errors import InputError
from medmm.types import Note, Report, Section

MAX_CHARACTERS = 1_000_000
MAX_BYTES = 4 * MAX_CHARACTERS

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "an archive or an office document"),
    (b"\xd0\xcf\x11\xe0", "an office document"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\x00", "an image"),
    (b"MM\x00*", "an image"),
    (b"\x1f\x8b", "a compressed file"),
    (b"{\\rtf", "RTF"),
)
_BYTE_ORDER_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_HTML_START = re.compile(r"\s*<(?:!doctype\s+html|html|\?xml)\b", re.IGNORECASE)
_HTML_TAG = re.compile(r"</?(?:html|head|body|p|br|div|span|table|tr|td|ul|li|font)\b[^<>]{0,200}>", re.IGNORECASE)
_HTML_TAGS_FOR_MARKUP = 3
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
_LOOKS_LIKE_PATH = re.compile(r"[^\s]{1,1024}\.(?:txt|dcm|html?|rtf|pdf|docx?)", re.IGNORECASE)

# Usual headings of radiology and pathology reports and the one name each gets here.
_HEADINGS: dict[str, str] = {
    "history": "history", "clinical history": "history", "clinical information": "history", "indication": "history",
    "indications": "history", "reason for exam": "history", "clinical indication": "history",
    "technique": "technique", "procedure": "technique", "protocol": "technique",
    "current procedure descriptions": "technique",
    "exam": "exam", "examination": "exam", "physical findings": "exam",
    "comparison": "comparison", "comparisons": "comparison",
    "findings": "findings", "finding": "findings", "description": "findings", "report": "findings",
    "impression": "impression", "impressions": "impression", "conclusion": "impression", "conclusions": "impression",
    "opinion": "impression", "summary": "impression",
    "addendum": "addendum", "recommendation": "recommendation", "recommendations": "recommendation",
    "diagnosis": "diagnosis", "final diagnosis": "diagnosis", "pathologic diagnosis": "diagnosis",
    "gross description": "gross description", "microscopic description": "microscopic description",
    "discussion": "discussion", "case diagnosis": "diagnosis", "differential diagnosis": "differential diagnosis",
}  # fmt: skip
_HEADING_LINE = re.compile(r"^[ \t]*(?P<title>[A-Za-z][A-Za-z /]{2,40}?)[ \t]*(?:(?P<colon>:)|$)", re.MULTILINE)
_POINTER = re.compile(
    r"(?:please\s+)?(?:see|refer to)\s+(?:the\s+)?(?:previous|prior|above|separate|dictated|earlier|full)\s+"
    r"(?:report|note|study|dictation)s?"
    r"|(?:report|dictation)\s+(?:to follow|pending|not available)"
    r"|no report(?: available)?",
    re.IGNORECASE,
)
_BLANK = re.compile(r"_{2,}|\.{3,}|\[\s*\]|\(\s*\)|<\s*>|\bn/?a\b|\bnone\b|\btbd\b", re.IGNORECASE)

# The most frequent function words; enough to tell a report's language from English, not to identify it finely.
_FUNCTION_WORDS: dict[str, str] = {
    "en": "the of and is are with no there in to was seen for on at",
    "de": "der die das und ist mit kein keine nicht im des den ein eine von zu",
    "fr": "le la les des et est une un du dans avec pas sans au sur",
    "es": "el la los las de y es con sin en una un del se no",
    "it": "il la di e con del della non si una un nel alla senza sono",
    "pt": "o a os as de e com sem do da em uma um na no",
    "nl": "de het een en van is met geen niet in op er bij zijn",
}
_WORDS_FOR_LANGUAGE = 12


def read_report(source: str | Path) -> Report:
    """Return a report from a file (text or DICOM structured report) or from the text itself.

    A `Path` is always a file. A `str` is a file where one of that name exists, and else the text; a single word that
    ends like a file name is taken for a missing file rather than for a report.

    Returns:
        The text with line ends as LF and its sections; `notes` say what was done (see the module's rules).
    Raises:
        InputError: `io.unreadable` where the file cannot be opened; `report.format` where it is not text.
    """
    if isinstance(source, Path):
        return read_report_bytes(_read_bytes(source), path=source)
    if "\n" not in source and len(source) < 4096 and "\0" not in source:
        path = Path(source)
        if source and _is_file(path):
            return read_report_bytes(_read_bytes(path), path=path)
        if _LOOKS_LIKE_PATH.fullmatch(source):
            raise InputError(
                "Expected a report file (there is none of this name).",
                code="io.unreadable",
                remedy="Check the path, or pass the report's text.",
            )
    return report_from_text(source)


def read_report_bytes(content: bytes, *, path: Path | None = None) -> Report:
    """Return the report in `content`; `path` serves to read DICOM. See `read_report` for results and errors."""
    if content[128:132] == b"DICM":
        return _read_structured(path)
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            raise _not_text(kind)
    text, notes = _decode(content)
    if text.lstrip().startswith("{\\rtf"):
        raise _not_text("RTF")
    if _HTML_START.match(text) or len(_HTML_TAG.findall(text[:20_000])) >= _HTML_TAGS_FOR_MARKUP:
        raise _not_text("HTML or XML")
    report = report_from_text(text)
    if len(content) > MAX_BYTES:
        notes.append(_truncated(len(content), "bytes"))
    return Report(text=report.text, sections=report.sections, notes=(*notes, *report.notes))


def report_from_text(text: str) -> Report:
    """Return `text`, cleaned, with its sections and notes."""
    notes = []
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    cleaned, dropped = _UNWANTED.subn("", plain)
    cleaned = cleaned.encode("utf-8", "replace").decode("utf-8")  # lone surrogates would fail in every writer
    if dropped:
        notes.append(Note("text.charset", f"{dropped} control characters were dropped from the report."))
    if len(cleaned) > MAX_CHARACTERS:
        notes.append(_truncated(len(cleaned), "characters"))
        cleaned = cleaned[:MAX_CHARACTERS]
    sections = find_sections(cleaned)
    if is_without_content(cleaned, sections):
        notes.append(Note("report.empty", "The report has no content and is treated as missing."))
    elif (language := guess_language(cleaned)) != "en":
        named = "another script" if language == "other" else f"language {language!r}"
        notes.append(Note("report.language", f"The report seems not to be in English ({named}); read with care."))
    return Report(text=cleaned, sections=sections, notes=tuple(notes))


def is_empty(report: Report) -> bool:
    """Whether the report was noted as having no content."""
    return any(note.code == "report.empty" for note in report.notes)


def find_sections(text: str) -> tuple[Section, ...]:
    """Return the titled parts of a report in order; offsets are of the body under each heading, trimmed.

    A heading is a known title at the start of a line, followed by a colon or written in capitals on a line of its own.
    """
    found = [(match, name) for match in _HEADING_LINE.finditer(text) if (name := _heading_name(match))]
    ends = [*(match.start() for match, _ in found[1:]), len(text)][: len(found)]
    sections = []
    for (match, name), end in zip(found, ends, strict=True):
        start = match.end("colon") if match.group("colon") else match.end("title")
        body = text[start:end]
        left = start + len(body) - len(body.lstrip())
        sections.append(Section(name, left, max(left, start + len(body.rstrip()))))
    return tuple(sections)


def is_without_content(text: str, sections: tuple[Section, ...] = ()) -> bool:
    """Whether nothing is said: no letters, only headings and blanks, or a pointer to another report."""
    bodies = " ".join(text[section.start : section.end] for section in sections) if sections else text
    filled = _BLANK.sub(" ", bodies)
    if not any(character.isalpha() for character in filled):
        return True
    words = " ".join(filled.split()).strip(" .:;-")
    return len(words) < 120 and _POINTER.fullmatch(words) is not None


def guess_language(text: str) -> str:
    """Return "en", another language's code, or "other" for a non-Latin script; "en" where there is too little text."""
    letters = [character for character in text[:20_000] if character.isalpha()]
    if letters and sum(character > "\u024f" for character in letters) > len(letters) / 2:
        return "other"
    function_words = {code: frozenset(known.split()) for code, known in _FUNCTION_WORDS.items()}
    words = re.findall(r"[^\W\d_]+", text[:20_000].lower())
    if len(words) < _WORDS_FOR_LANGUAGE:
        return "en"
    counts = {code: len([word for word in words if word in known]) for code, known in function_words.items()}
    best = max(counts, key=lambda code: (counts[code], code == "en"))
    return best if counts[best] > 1.5 * counts["en"] and counts[best] >= 3 else "en"


def _heading_name(match: re.Match[str]) -> str | None:
    title = match.group("title")
    name = _HEADINGS.get(" ".join(title.lower().split()))
    if name is None or (not match.group("colon") and not title.isupper()):
        return None
    return name


def _decode(content: bytes) -> tuple[str, list[Note]]:
    limited = content[:MAX_BYTES]
    for mark, encoding in _BYTE_ORDER_MARKS:
        if limited.startswith(mark):
            text = limited.decode(encoding, "replace")
            return text, [_undecodable(text)] if "\ufffd" in text else []
    nul_share = [limited[start::2].count(0) / max(1, len(limited) // 2) for start in (0, 1)]
    if max(nul_share) > 0.4 and min(nul_share) < 0.1:
        encoding = "utf-16-be" if nul_share[0] > nul_share[1] else "utf-16-le"
        return limited.decode(encoding, "replace"), [Note("text.charset", "The report was read as UTF-16.")]
    if limited.count(0) > len(limited) / 20:
        raise _not_text("binary data")
    try:
        # A character cut by the byte limit is no decoding error.
        return limited.decode("utf-8", "strict" if len(content) <= MAX_BYTES else "ignore"), []
    except UnicodeDecodeError:
        text = limited.decode("cp1252", "replace")
    if sum(_UNWANTED.match(character) is not None for character in text[:4096]) > 40:
        raise _not_text("binary data")
    return text, [Note("text.charset", "The report is not UTF-8 and was read as Windows-1252.")]


def _read_structured(path: Path | None) -> Report:
    if path is None:
        raise _not_text("a DICOM file")
    from medmm.dicom.text import read_sr_text

    report = report_from_text(read_sr_text(path))
    return Report(text=report.text, sections=report.sections, origin="sr", notes=report.notes)


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError("The report is not a regular file.", code="io.unreadable")
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"The report file cannot be opened ({error.strerror or 'input/output error'}).", code="io.unreadable"
        ) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text can be longer than a file name may be
        return False


def _not_text(kind: str) -> InputError:
    return InputError(
        f"Expected a report in plain text (got {kind}).",
        code="report.format",
        remedy="Export the report as a .txt file in UTF-8.",
    )


def _undecodable(text: str) -> Note:
    return Note("text.charset", f"{text.count(chr(0xFFFD))} characters of the report could not be decoded.")


def _truncated(length: int, unit: str) -> Note:
    return Note("report.truncated", f"The report has {length} {unit} or more; {MAX_CHARACTERS} characters were read.")
