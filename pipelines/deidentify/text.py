"""Free text without the people in it: rules for what looks like an identifier, allow-lists for what may be a name.

Two strengths. A description of a series keeps only words of the allow-list. A report keeps its words, but loses what
the rules find, and every capitalised word that is neither general English of reports nor a word of the knowledge graph.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from pipelines.deidentify.actions import read_list

AGE_CAP_YEARS = 90  # 45 CFR 164.514(b)(2)(i)(C): ages over 89 are one category
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*"
_LABELS = (
    "patient(?: name| id| no| number)?|pt(?: name)?|name|first name|last name|surname|dob|d\\.o\\.b\\.|"
    "date of birth|birth ?date|born|mrn|medical record(?: number| no)?|accession(?: number| no)?|ssn|"
    "address|phone|tel(?:ephone)?|fax|e-?mail|referr(?:ing|ed)(?: physician| by)?|order(?:ing|ed)"
    "(?: physician| by)?|attending(?: physician)?|physician|doctor|radiologist|pathologist|resident|"
    "technologist|operator|author|dictated(?: by| on)?|transcribed(?: by| on)?|read by|reported by|"
    "reviewed(?: by)?|verified(?: by)?|(?:electronically )?signed(?: by| on)?|cc|hospital|institution|"
    "department|ward|location|date(?: of (?:exam|study|service|report))?|time|study date|exam date"
)
_TITLES = "dr|mr|mrs|ms|miss|prof|professor|doctor|nurse|md"
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("label", re.compile(rf"(?im)^([ \t]*(?:{_LABELS})[ \t]*[:#])(?!//)[^\n]*$"), r"\1 [REMOVED]"),
    ("signature", re.compile(r"(?im)\b((?:electronically )?signed|dictated|transcribed|verified) by\b[^\n]*"),
     r"\1 by [REMOVED]"),
    ("address", re.compile(r"(?i)\b\S{1,64}@\S+|\b(?:https?://|www\.)\S+"), "[ADDRESS]"),
    ("date", re.compile(r"\b\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b"), "[DATE]"),
    ("date", re.compile(rf"(?i)\b\d{{1,2}}(?:st|nd|rd|th)?[ .-]*(?:of )?{_MONTH}\b[ .,-]*(?:\d{{2,4}}\b)?"), "[DATE]"),
    ("date", re.compile(rf"(?i)\b{_MONTH}\.?[ -]+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,? *\d{{4}}\b)?"), "[DATE]"),
    ("date", re.compile(rf"(?i)\b{_MONTH}\.?,? +(?:of )?(?:19|20)\d\d\b"), "[DATE]"),
    ("date", re.compile(r"\b(?:19|20)\d\d\b(?!\s*(?:ms|mm|ml|mg|hu|s/mm))", re.IGNORECASE), "[DATE]"),
    ("time", re.compile(r"(?i)\b\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\b\.?)?"), "[TIME]"),
    ("phone", re.compile(r"(?<!\w)\+?\(?\d{2,4}\)?[ ./-]\d{3,4}[ ./-]\d{3,}\b"), "[PHONE]"),
    ("person", re.compile(rf"\b(?i:{_TITLES})\b\.?(?:[ \t]+[^\W\d_][\w'’.-]*){{1,3}}"), "[NAME]"),
    ("number", re.compile(r"(?<![\w.])\w*\d{5,}\w*"), "[NUMBER]"),
    ("number", re.compile(r"\b(?=\w*\d\w*\d\w*\d)(?=\w*[^\W\d_]{2})\w{6,}\b"), "[NUMBER]"),
)  # fmt: skip
_AGE = re.compile(r"(?i)\b(\d{2,3})(?=[ -]*(?:years?|yrs?|y/?o|y\.o\.)\b)")
_MARK = re.compile(r"\[(?:REMOVED|ADDRESS|DATE|TIME|PHONE|NAME|NUMBER|ID|90\+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrubber:
    """Cleans text. `known` are identifiers of the same patient; `vocabulary` the lower-case words that are no names."""

    known: tuple[str, ...] = field(default=(), repr=False)
    vocabulary: frozenset[str] = field(default=frozenset(), repr=False)

    def report(self, text: str) -> str:
        """Return a report with marks such as [NAME] and [DATE] where something was taken out."""
        text = self.without_known(text)
        for _, pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        text = _AGE.sub(lambda found: "[90+]" if int(found[1]) >= AGE_CAP_YEARS else found[1], text)
        pieces, end = [], 0
        for mark in _MARK.finditer(text):
            pieces += [_WORD.sub(self._word, text[end : mark.start()]), mark.group()]
            end = mark.end()
        return "".join((*pieces, _WORD.sub(self._word, text[end:])))

    def description(self, text: str) -> str:
        """Return the words and short numbers of a description that are on the allow-list, in their order."""
        kept = [piece for piece in re.split(r"[^\w+-]+|_", self.without_known(text)) if self._is_plain(piece)]
        return " ".join(kept)

    def without_known(self, text: str, mark: str = "[ID]") -> str:
        """Return `text` with every known identifier replaced by `mark`."""
        for identifier in self.known:
            if identifier.lower() in text.lower():
                text = re.sub(rf"(?<!\w){re.escape(identifier)}(?!\w)", mark, text, flags=re.IGNORECASE)
        return text

    def _word(self, found: re.Match[str]) -> str:
        word = found.group()
        if len(word) == 1 or word.islower() or self._is_known_word(word):
            return word
        return "[NAME]"

    def _is_known_word(self, word: str) -> bool:
        lower = word.lower().replace("’", "'").removesuffix("'s")
        return lower in self.vocabulary or lower in general_words() or lower in description_words()

    def _is_plain(self, piece: str) -> bool:
        parts = [part for part in re.split(r"[+-]", piece) if part]
        return bool(parts) and all(
            part.lower() in description_words() or (part.isdecimal() and len(part) <= 3) or len(part) == 1
            for part in parts
        )


def identifiers_of(names: Iterable[str], ids: Iterable[str]) -> tuple[str, ...]:
    """Return what has to be looked for in free text: parts of person names, ids whole; the longest first.

    Parts of names shorter than three letters and ids shorter than four characters would hit too much and are left to
    the other rules.
    """
    parts = {part for name in names for part in re.split(r"[\^=,\s]+", name) if len(part) > 2}
    whole = {text for raw in ids if len(text := raw.strip()) > 3}
    return tuple(sorted(parts | whole, key=lambda text: (-len(text), text)))


@cache
def graph_vocabulary() -> frozenset[str]:
    """Return the words of the default knowledge graph that are written in lower case there, so are no proper names."""
    import kg

    words = (word for name in kg.load_default().names for word in _WORD.findall(name)[1:])
    return frozenset(word for word in words if word.islower() and len(word) > 2)


@cache
def general_words() -> frozenset[str]:
    """Return general words of reports (`report_words.txt`)."""
    return read_list("report_words.txt")


@cache
def description_words() -> frozenset[str]:
    """Return the words that a description may keep (`words.txt`)."""
    return read_list("words.txt")
