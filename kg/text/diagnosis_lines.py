"""A pathologist's diagnosis line, with the organ it is about, to one concept - or to none, rather than to a wrong one.

"Adenocarcinoma, well differentiated" of the colon is looked up as "colon adenocarcinoma", then as "adenocarcinoma".
Qualifiers (grade, differentiation, what it arises from, "not otherwise specified") are attributes and not searched.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kg.text.adjectives import NOUN_OF
from kg.text.normalise import normalise

if TYPE_CHECKING:
    from kg.text.linker import Linker

LINE_KINDS = ("disease", "finding", "phenotype", "code")
# Longer than this is no line that names one diagnosis.
MAX_LINE_CHARS = 1000
SCORE_WHOLE, SCORE_SHORTENED, SCORE_BROADER = 1.0, 0.9, 0.75

_PARENTHESIS = re.compile(r"\s*\([^()]*\)")
_TAIL = re.compile(
    r"(?:\s*,\s*|\s+)(?:with|without|arising|associated|morphologically|"
    r"favou?r\w*|not otherwise|nos\b|from\b|involving|"
    r"suspicious|consistent with|compatible with|hpv-(?:associated|independent)|"
    r"(?:usual|pleomorphic|classic|clear cell)\s+type|"
    r"in (?:an? )?(?:intraductal|tubul|villous|background)|of malt type|of mucosa)\b.*$",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(r"\bfavou?r\w*\b.*\bprimary\b", re.IGNORECASE)
_GRADE = re.compile(
    r"[,\s]*\b(?:(?:well|moderately|poorly)[- ]differentiated|(?:low|intermediate|high)[- ]grade(?! squamous)|"
    r"grade\s+\w+|G[1-4])\b",
    re.IGNORECASE,
)
# Words before a diagnosis that narrow it without changing what it is.
_MODIFIERS = frozenset(
    ("acinar", "active", "acute", "chronic", "conventional", "early", "focal", "infiltrating", "invasive", "malignant",
     "mild", "moderate", "multifocal", "nonspecific", "severe", "superficial", "usual")
)  # fmt: skip
_ORGAN_WORDS = {"urinary bladder": ("bladder",), "uterine cervix": ("cervix", "cervical", "endocervical"),
                "cervix": ("cervical", "endocervical"), "rectum": ("colorectal",), "colon": ("colorectal",),
                "nipple": ("breast",), "breast": ("mammary",)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LineLink:
    """The concept of a diagnosis line; `matched` is the reading that the graph knew."""

    concept: str
    score: float
    matched: str


def link_diagnosis_line(linker: "Linker", text: str, organ: str = "") -> LineLink | None:
    """Return the concept that a diagnosis line names, or None where no source knows it under a safe reading.

    Args:
        text: The diagnosis as written, without number and attributes.
        organ: The specimen's organ, such as "Urinary bladder"; readings with it come first.
    """
    if len(text) > MAX_LINE_CHARS:
        return None
    places = _places(organ)
    for score, reading in _readings(text):
        for place in places:
            for form in (f"{place} {reading}", f"{reading} of {place}", f"{reading} of the {place}"):
                if curie := linker.lookup_any(form, LINE_KINDS):
                    return LineLink(curie, score, form)
        if curie := linker.lookup_any(reading, LINE_KINDS):
            return LineLink(curie, score, reading)
    return None


def _readings(text: str) -> Iterator[tuple[float, str]]:
    """Shorter and shorter readings of a line, each once."""
    seen: set[str] = set()
    whole = " ".join(text.split()).strip(" .,;")
    if _ELSEWHERE.search(whole):
        return  # "favor colorectal primary": the tumour is not of the organ it was taken from
    bare = _PARENTHESIS.sub("", whole)
    ungraded = _GRADE.sub("", bare).strip(" ,")
    head = _TAIL.sub("", bare).strip(" ,")
    short = _GRADE.sub("", _TAIL.sub("", ungraded)).strip(" ,")
    for score, reading in (
        (SCORE_WHOLE, whole),
        (SCORE_WHOLE, bare),
        (SCORE_SHORTENED, ungraded),
        (SCORE_SHORTENED, head),
        (SCORE_SHORTENED, short),
        *((SCORE_BROADER, one) for one in _without_modifiers(short)),
    ):
        if reading and reading.lower() not in seen:
            seen.add(reading.lower())
            yield score, reading


def _without_modifiers(text: str) -> Iterator[str]:
    words = text.split(" ")
    while len(words) > 1 and words[0].lower().rstrip(",") in _MODIFIERS:
        words = words[1:]
        yield " ".join(words)


def _places(organ: str) -> Sequence[str]:
    name = " ".join(normalise(organ).tokens)
    if not name:
        return ()
    adjectives = [adjective for adjective, noun in NOUN_OF.items() if noun == name]
    return (name, *adjectives, *_ORGAN_WORDS.get(name, ()))
