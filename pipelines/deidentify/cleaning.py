"""One data set after the action table: nested items, unlisted attributes and text included."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.deidentify.actions import DATE_VRS, TEXT_VRS, Action, ActionTable
from pipelines.deidentify.pseudonyms import Pseudonyms, shift_date
from pipelines.deidentify.text import AGE_CAP_YEARS, Scrubber, identifiers_of

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

TEXT_VALUE = 0x0040A160
PATIENT_AGE = 0x00101010
_CHARSET = 0x00080005
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{0,16}\Z")
_NUMBER = re.compile(r"[ ]*[+-]?\d*\.?\d*(?:[eE][+-]?\d+)?[ ]*\Z")
_TIME = re.compile(r"\d{2,6}(?:\.\d{1,6})?\Z")
_TIMEZONE = re.compile(r"[+-]\d{4}\Z")
# Consistent with their representation, saying nothing (PS3.15 E.1.1, action D).
_DUMMIES: dict[str, Any] = {
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "CS": "REMOVED",
    "AE": "REMOVED",
    "PN": "REMOVED",
    "UR": "http://removed.invalid",
}
_WHOLE_IDS = (
    "PatientID", "AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "PatientAddress", "PatientTelephoneNumbers", "StationName", "IssuerOfPatientID", "MedicalRecordLocator",
    "PatientMotherBirthName", "PatientInsurancePlanCodeSequence", "AdmissionID", "OtherPatientIDs",
)  # fmt: skip
_DEPTH = 64  # the strict walk over the file has capped nesting at half of this


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaner:
    """What cleaning one file needs. `shift_days` is 0 where dates are not kept; `has_content`: text items stay."""

    table: ActionTable
    pseudonyms: Pseudonyms
    scrubber: Scrubber
    patient: str
    shift_days: int
    has_content: bool = False

    def clean(self, dataset: "Dataset") -> None:
        """Apply the table to a data set and everything in it, in place."""
        self._level(dataset, 0)

    def _level(self, dataset: "Dataset", depth: int) -> None:
        for tag in list(dataset.keys()):
            element = _decoded(dataset, tag)
            if element is None or depth > _DEPTH or (depth and tag == _CHARSET):
                del dataset[tag]
                continue
            action = self.table.action(int(tag), element.VR)
            if element.VR == "SQ" and action not in ("remove", "empty"):
                self._sequence(dataset, element, depth)
            elif self.has_content and int(tag) == TEXT_VALUE:
                element.value = self.scrubber.report(str(element.value or ""))
            else:
                self._apply(dataset, element, action)

    def _sequence(self, dataset: "Dataset", element: "DataElement", depth: int) -> None:
        """Clean the items; who observed is left out of content, and a sequence left without items goes."""
        items = [item for item in element.value if item.get("RelationshipType") != "HAS OBS CONTEXT"]
        for item in items:
            self._level(item, depth + 1)
        element.value = items

    def _apply(self, dataset: "Dataset", element: "DataElement", action: Action) -> None:
        if action == "keep":
            action = self._may_keep(element)
        value: Any = None
        match action:
            case "remove":
                del dataset[element.tag]
                return
            case "keep":
                return
            case "empty":
                value = [] if element.VR == "SQ" else None
            case "uid":
                value = _each(element.value, self.pseudonyms.uid)
            case "replace":
                value = self._dummy(element) if element.value not in (None, "", b"", []) else element.value
            case "shift":
                value = _each(element.value, lambda text: self._shift(element.VR, text))
            case "clean":
                value = _each(element.value, self._describe) if element.VR in TEXT_VRS else None
        element.value = value

    def _dummy(self, element: "DataElement") -> Any:
        if element.VR == "UI":
            return _each(element.value, self.pseudonyms.uid)
        if element.VR in _DUMMIES:
            return _DUMMIES[element.VR]
        if element.VR in TEXT_VRS:
            return "REMOVED"
        return b"\0\0" if element.VR.startswith("O") or element.VR == "UN" else 0

    def _describe(self, text: str) -> str:
        """Return a cleaned description; one that loses every word still says that there was one."""
        return self.scrubber.description(text) or ("REMOVED" if text else "")

    def _shift(self, vr: str, text: str) -> str:
        if vr == "TM":
            return text if _TIME.match(text) else ""
        if vr in DATE_VRS:
            return shift_date(text, self.shift_days)
        return text if _TIMEZONE.match(text.strip()) else ""

    def _may_keep(self, element: "DataElement") -> Action:
        """Return `keep` unless a kept attribute holds what its representation does not allow, or an identifier."""
        vr, texts = element.VR, list(_texts(element.value))
        if int(element.tag) == PATIENT_AGE:
            element.value = capped_age(texts[0]) if texts else None
            return "keep"
        if vr == "CS" and not all(_CODE_STRING.match(text) for text in texts):
            return "remove"
        if vr in ("DS", "IS") and not all(_NUMBER.match(text) for text in texts):
            return "remove"
        if vr in (*TEXT_VRS, "CS", "AE") and any(self.scrubber.without_known(text) != text for text in texts):
            return "empty"
        return "keep"


def find_identifiers(dataset: "Dataset") -> tuple[str, ...]:
    """Return what names people and places in a data set, to be looked for in the text that stays."""
    names: list[str] = []
    ids: list[str] = []
    for element in _walk(dataset, 0):
        if element.VR == "PN":
            names += _texts(element.value)
        elif element.keyword in _WHOLE_IDS and element.VR != "SQ":
            ids += _texts(element.value)
    return identifiers_of(names, ids)


def capped_age(text: str) -> str:
    """Return an age string (AS) with 90 years and more as `090Y`; '' where it is none."""
    if not re.fullmatch(r"\d{3}[DWMY]", text):
        return ""
    return f"{AGE_CAP_YEARS:03d}Y" if text[3] == "Y" and int(text[:3]) >= AGE_CAP_YEARS else text


def _walk(dataset: "Dataset", depth: int) -> Iterator["DataElement"]:
    for tag in list(dataset.keys()):
        element = _decoded(dataset, tag)
        if element is None:
            continue
        yield element
        if element.VR == "SQ" and depth <= _DEPTH:
            for item in element.value or ():
                yield from _walk(item, depth + 1)


def _decoded(dataset: "Dataset", tag: Any) -> "DataElement | None":
    """Return an element with its value decoded; None where it is unknown or its value cannot be understood."""
    from pydicom.datadict import dictionary_has_tag

    if not dictionary_has_tag(tag) or tag.is_private:
        return None
    try:
        element = dataset[tag]
        _ = element.value
    except (ValueError, TypeError, KeyError, NotImplementedError, AttributeError, OverflowError):
        return None
    return None if element.VR == "UN" and int(tag) >> 16 != 0x7FE0 else element


def _texts(value: Any) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, list | tuple) or (hasattr(value, "__iter__") and not hasattr(value, "encode")
                                           and not hasattr(value, "components")):  # fmt: skip
        for one in value:
            yield str(one).strip(" \0")
    elif not isinstance(value, bytes):
        yield str(value).strip(" \0")


def _each(value: Any, change: Any) -> Any:
    """Return `change` of the text or of each text of a multi-valued attribute; None for nothing."""
    changed = [change(text) for text in _texts(value)]
    if len(changed) > 1:
        return changed
    return changed[0] if changed and changed[0] else None
