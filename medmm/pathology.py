"""Synoptic pathology reports: specimens with their organ, procedure, diagnosis lines and graded attributes.

    Organ, procedure;
      1. Diagnosis, grade II (Tubule formation: 2, ...)
         with sub-finding
      - Attribute: value
    Note) free text

The layout follows the wording of the College of American Pathologists' protocols as laboratories write it: a specimen
header that ends in a semicolon or colon, then numbered or indented diagnoses. Offsets count characters of the report.
Grading: Gleason grade groups after Epstein et al., Am J Surg Pathol 2016;40:244-252.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kg import Linker, Mention
from kg.text.diagnosis_lines import link_diagnosis_line
from kg.text.mention import Status
from medmm.types import Report


@dataclass(frozen=True, slots=True)
class Gleason:
    """Gleason score of a prostate cancer. `grade_group` is as written, else what the patterns give."""

    primary: int
    secondary: int
    score: int
    grade_group: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """A named value as written: `Nuclear grade: High`, `tumor volume: 40%`."""

    name: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisLine:
    """One diagnosis: `report[start:end]` is its name, without number, grade and attributes.

    `is_negated`: the line says that nothing was found ("No evidence of tumor"). `grade` is `1`-`4`, `low`,
    `intermediate` or `high`, empty where none is stated. `percentages` go by name ("tumor volume").
    """

    text: str
    start: int
    end: int
    is_negated: bool = False
    is_uncertain: bool = False
    grade: str = ""
    gleason: Gleason | None = None
    percentages: tuple[tuple[str, float], ...] = ()
    sizes_mm: tuple[float, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """What was looked at: organ, procedure, the diagnoses in order, and the notes below them."""

    organ: str
    procedure: str
    start: int
    end: int
    diagnoses: tuple[DiagnosisLine, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SynopticReport:
    """The specimens of a report in order; none where the text is not synoptic."""

    specimens: tuple[Specimen, ...]

    @property
    def is_synoptic(self) -> bool:
        """Whether a specimen header was found."""
        return bool(self.specimens)


_PROCEDURES = (
    r"biops(?:y|ies)|resection|excision|dissection|polypectomy|\w*ectomy|conization|cone|curettage|curettings|aspiration|"
    r"cytology|smear|needle|core|punch|lobectomy|mastectomy|prostatectomy|procedure|lavage|"
    r"washing|brushing|specimen|amputation"
)
_HEADER = re.compile(
    rf"^[ \t]*(?:[A-Z0-9]{{1,2}}[.)][ \t]*)?(?P<organ>[A-Za-z][A-Za-z /()'-]*(?:,[ \t]*(?:left|right|bilateral|upper|"
    rf"lower|"
    rf"middle)\b[^,;:\n]*)?),[ \t]*(?P<procedure>[^;:\n]*\b(?:{_PROCEDURES})\b[^;:\n]*)[;:]",
    re.IGNORECASE | re.MULTILINE,
)
_NOTE = re.compile(r"^[ \t]*(?:note|comment)s?\b[ \t]*[):.]+[ \t]*", re.IGNORECASE | re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*(?:\d{1,2}[.)]|\(\d{1,2}\)|[•*])[ \t]+")
_ATTRIBUTE_LINE = re.compile(r"^[ \t]*[-–•][ \t]*(?P<name>[A-Za-z][A-Za-z /]*?)[ \t]*:[ \t]*(?P<value>.+?)[ \t]*$")
_CONTINUES = re.compile(r"^(?:with|associated|of|in|and|arising|involving|involvement|invading|extending|from)\b", re.I)
_FEATURE_SPLIT = re.compile(r"\d{1,2}\)\s*|\s+and\s+|,\s*")
_NEGATED = re.compile(
    r"^(?:no|negative for|absence of|without|free of)\b|\b(?:not (?:seen|identified|present)|is negative)\b",
    re.IGNORECASE,
)
_UNCERTAIN = re.compile(
    r"\b(?:favou?r|suspicious|suggestive|"
    r"cannot (?:exclude|be excluded)|possible|probable|consistent with|compatible with)\b",
    re.IGNORECASE,
)
_GLEASON = re.compile(
    r"gleason(?:['’]s)?(?:\s+(?:score|grade|sum))*\s*:?\s*(?:(?P<score>\d{1,2})\s*)?"
    r"\(?\s*(?P<primary>[1-5])\s*\+\s*(?P<secondary>[1-5])\s*(?:=\s*(?P<sum>\d{1,2}))?\s*\)?",
    re.IGNORECASE,
)
_GRADE_GROUP = re.compile(r"grade\s+group\s*:?\s*(?P<group>[1-5]|I{1,3}|IV|V)\b", re.IGNORECASE)
_GRADE = re.compile(
    r"\b(?:(?:histologic(?:al)?|nuclear|overall)?\s*grade\s*:?\s*(?P<roman>IV|I{1,3}|[1-4])(?![\w+])|G\s?(?P<g>[1-4])\b|"
    r"(?P<word>low|intermediate|high)[- ]grade\b|"
    r"(?P<diff>well|moderately|poorly)[- ]differentiated|(?P<undiff>undifferentiated))",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9 /-]*?)\s*:?\s*(?P<value>\d{1,3}(?:\.\d+)?)\s*%")
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(?:(?:x|×|by)\s*(\d+(?:\.\d+)?)\s*)*(mm|cm)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Where the name of a diagnosis ends and its attributes begin.
_NAME_END = re.compile(
    r"\s*(?:,\s*(?=Gleason|grade\b|tumou?r volume)|\((?=\s*(?:Tubule|Gleason|Nuclear grade|Mitos))|,\s*G\s?[1-4]\b|"
    r"\s*,?\s*(?:histologic |nuclear )?grade\s+(?:IV|I{1,3}|[1-4])\b|\s+with\s+(?=\d{1,2}\)))",
    re.IGNORECASE,
)
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5}
_DIFFERENTIATION = {"well": "1", "moderately": "2", "poorly": "3"}


def parse_synoptic(report: str | Report) -> SynopticReport:
    """Return the specimens of a synoptic pathology report; empty where the text has no specimen header."""
    text = report.text if isinstance(report, Report) else report
    headers = list(_HEADER.finditer(text))
    bounds = [*(header.start() for header in headers[1:]), len(text)]
    return SynopticReport(
        tuple(_specimen(text, header, stop) for header, stop in zip(headers, bounds, strict=True)) if headers else ()
    )


def link_synoptic(report: SynopticReport, linker: Linker) -> list[Mention]:
    """Return one mention for each diagnosis line that the graph knows, in order; offsets are those of the report.

    A negated line ("No evidence of tumor") gives the absence of what it names; a doubted one is uncertain.
    Grade, score and features stay attributes of the line and are no mentions. Lines that no source knows give none.
    """
    mentions = []
    for specimen in report.specimens:
        for line in specimen.diagnoses:
            if line.is_negated:
                mentions += _denied(line, linker)
            elif (found := link_diagnosis_line(linker, line.text, specimen.organ)) is not None:
                status: Status = "uncertain" if line.is_uncertain else "present"
                mentions.append(
                    Mention(
                        start=line.start,
                        end=line.end,
                        text=line.text,
                        concept=found.concept,
                        status=status,
                        score=found.score,
                    )
                )
    return mentions


def _denied(line: DiagnosisLine, linker: Linker) -> list[Mention]:
    return [
        replace(found, start=line.start + found.start, end=line.start + found.end, status="absent")
        for found in linker.link(line.text)
    ]


def _specimen(text: str, header: re.Match[str], stop: int) -> Specimen:
    note = _NOTE.search(text, header.end(), stop)
    body_end = note.start() if note else stop
    notes = (" ".join(text[note.end() : stop].split()),) if note else ()
    return Specimen(
        organ=" ".join(header["organ"].split()),
        procedure=" ".join(header["procedure"].split()),
        start=header.start(),
        end=stop,
        diagnoses=tuple(_diagnosis(text, *block) for block in _blocks(text, header.end(), body_end)),
        notes=notes,
    )


def _blocks(text: str, start: int, stop: int) -> Iterator[tuple[int, int, tuple[Attribute, ...]]]:
    """Yield (start, end, attribute lines) of each diagnosis: an item and the lines that continue it."""
    begin, end, attributes = -1, -1, list[Attribute]()
    for line_start, line_end in _lines(text, start, stop):
        line = text[line_start:line_end]
        attribute = _ATTRIBUTE_LINE.match(line)
        item = _ITEM.match(line)
        if attribute and begin >= 0:
            attributes.append(
                Attribute(attribute["name"].strip(), attribute["value"], line_start + attribute.start("name"), line_end)
            )
        elif begin >= 0 and (
            _continues(text, begin, end, line) if item is None else _is_sublist(text, begin, end, line)
        ):
            end = line_end
        else:
            if begin >= 0:
                yield begin, end, tuple(attributes)
            begin, end, attributes = line_start + (item.end() if item else 0), line_end, []
    if begin >= 0:
        yield begin, end, tuple(attributes)


def _lines(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of non-empty lines, without outer blanks on the right."""
    for match in re.compile(r"[^\n]+").finditer(text, start, stop):
        stripped = match.group().rstrip()
        if stripped.strip():
            indent = len(stripped) - len(stripped.lstrip())
            yield match.start() + indent, match.start() + len(stripped)


def _continues(text: str, begin: int, end: int, line: str) -> bool:
    """Whether a line without number goes on with the diagnosis above it."""
    above = text[begin:end].rstrip()
    return above.endswith((",", "-", "with", "of", "and")) or bool(_CONTINUES.match(line)) or line[:1].islower()


def _is_sublist(text: str, begin: int, end: int, line: str) -> bool:
    """Whether "2) ulcer" belongs to a "with 1) erosion" above it."""
    has_list_above = re.search(r"\bwith(?:\s+\d{1,2}\)|$)", text[begin:end].rstrip())
    return bool(has_list_above) and bool(re.match(r"\s*\d{1,2}[.)]", line))


def _diagnosis(text: str, start: int, end: int, attributes: tuple[Attribute, ...]) -> DiagnosisLine:
    whole = text[start:end]
    cut = _NAME_END.search(whole)
    name_end = start + (cut.start() if cut else len(whole.rstrip(" .;")))
    name = text[start:name_end].rstrip(" ,;.")
    return DiagnosisLine(
        text=" ".join(name.split()),
        start=start,
        end=start + len(name),
        is_negated=bool(_NEGATED.search(name)),
        is_uncertain=bool(_UNCERTAIN.search(name)),
        grade=_grade(whole, attributes),
        gleason=_gleason(whole),
        percentages=_percentages(whole, attributes),
        sizes_mm=_sizes_mm(whole),
        attributes=(*_bracketed(text, start, end), *attributes),
        features=_features(whole),
    )


def _gleason(text: str) -> Gleason | None:
    match = _GLEASON.search(text)
    if match is None:
        return None
    primary, secondary = int(match["primary"]), int(match["secondary"])
    stated = _GRADE_GROUP.search(text)
    group = _number(stated["group"]) if stated else grade_group(primary, secondary)
    return Gleason(primary, secondary, primary + secondary, group)


def grade_group(primary: int, secondary: int) -> int:
    """Return the ISUP grade group of two Gleason patterns.

    >>> grade_group(3, 4), grade_group(4, 3)
    (2, 3)
    """
    score = primary + secondary
    if score <= 6:
        return 1
    if score == 7:
        return 2 if primary == 3 else 3
    return 4 if score == 8 else 5


def _grade(text: str, attributes: tuple[Attribute, ...]) -> str:
    """The grade of a diagnosis line, else of its "grade" attribute; a Gleason grade group is none."""
    match = _GRADE.search(_GRADE_GROUP.sub("", text))
    if match is not None:
        if match["roman"]:
            return str(_number(match["roman"]))
        if match["g"]:
            return match["g"]
        if match["word"]:
            return match["word"].lower()
        return "4" if match["undiff"] else _DIFFERENTIATION[match["diff"].lower()]
    for attribute in attributes:
        if "grade" in attribute.name.lower():
            word = re.search(r"low|intermediate|high|IV|I{1,3}|[1-4]", attribute.value, re.IGNORECASE)
            if word:
                value = word.group().lower()
                return str(_number(value)) if value in _ROMAN or value.isdigit() else value
    return ""


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _ROMAN[text.lower()]


def _percentages(text: str, attributes: tuple[Attribute, ...]) -> tuple[tuple[str, float], ...]:
    parts = [text, *(f"{one.name}: {one.value}" for one in attributes)]
    return tuple(
        (match["name"].strip().lower(), float(match["value"])) for part in parts for match in _PERCENT.finditer(part)
    )


def _sizes_mm(text: str) -> tuple[float, ...]:
    sizes: list[float] = []
    for match in _SIZE.finditer(text):
        factor = 10.0 if match.group(3).lower() == "cm" else 1.0
        sizes += [round(float(number) * factor, 3) for number in _NUMBER.findall(match.group())]
    return tuple(sizes)


def _bracketed(text: str, start: int, end: int) -> tuple[Attribute, ...]:
    """`(Tubule formation: 2, Nuclear grade: 2, Mitoses: 1)` and `, tumor volume: 40%` as attributes."""
    pattern = re.compile(r"(?<=[(,])\s*(?P<name>[A-Za-z][A-Za-z0-9 ]*?)\s*:\s*(?P<value>[^,():]+)")
    return tuple(
        Attribute(match["name"], match["value"].strip(), match.start("name"), match.end("value"))
        for match in pattern.finditer(text, start, end)
    )


def _features(text: str) -> tuple[str, ...]:
    """What a "with ..." tail lists: erosion, intestinal metaplasia, involvement of muscle proper."""
    match = re.search(r"\bwith\s+(.+)$", " ".join(text.split()), re.IGNORECASE)
    if match is None:
        return ()
    parts = (part.strip(" ,;.") for part in _FEATURE_SPLIT.split(match.group(1)))
    return tuple(part for part in parts if part)
