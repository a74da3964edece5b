"""Coded concepts of results: the standard's own where there is one, else codes of a private scheme with their text."""

from typing import TYPE_CHECKING

from medmm.report.dicom.study import long_string

if TYPE_CHECKING:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import CodedConcept

    from medmm.report.document import ClassProbability

# A private scheme starts with 99 (PS3.3, 8.2). Its values are names of the model's labels, stable per model.
PRIVATE_SCHEME = "99MEDMM"
# Prefixes of CURIEs whose codes DICOM names by a designator (PS3.16, table 8-1).
_DESIGNATORS = {"SCT": "SCT", "SNOMEDCT": "SCT", "RADLEX": "RADLEX", "RID": "RADLEX", "DCM": "DCM", "UBERON": "UBERON"}
# A code meaning is needed; what has no title is said by its name.
_NAMELESS = "unnamed"


def coding_schemes() -> "list[CodingSchemeIdentificationItem]":
    """What our private scheme is, for the objects that use it."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return [CodingSchemeIdentificationItem(PRIVATE_SCHEME, name="Labels of medmm models", version="1")]


def private_code(name: str, meaning: str) -> "CodedConcept":
    """A code of our own."""
    from highdicom.sr import CodedConcept

    text = long_string(meaning) or long_string(name) or _NAMELESS
    return CodedConcept(value=long_string(name) or _NAMELESS, scheme_designator=PRIVATE_SCHEME, meaning=text)


def class_code(label: "ClassProbability") -> "CodedConcept":
    """The code of an answer: its concept's, where the concept is of a scheme that DICOM knows."""
    from highdicom.sr import CodedConcept

    prefix, _, value = label.concept.partition(":")
    designator = _DESIGNATORS.get(prefix.upper())
    if designator is None or not value.isalnum():
        return private_code(label.name, label.title)
    return CodedConcept(value=value, scheme_designator=designator, meaning=long_string(label.title) or _NAMELESS)
