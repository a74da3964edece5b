"""What stands in for names, UIDs and dates: keyed, so that files of one patient still belong together.

The same key gives the same stand-ins in every run; without the key nobody can test whether a known id is among them.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import date, timedelta

from medmm.identity import opaque_id

STANDARD_ROOT = "1.2.840.10008."
SHIFT_DAYS = (366, 3652)  # one to ten years back, never forward: no shifted date lies in the future


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Stand-ins under one key (32 bytes or more)."""

    key: bytes = field(repr=False)

    def uid(self, uid: str) -> str:
        """Return a UID under 2.25 (PS3.5 B.2, ITU-T X.667), or the UID itself where the standard defines it."""
        plain = uid.strip(" \0")
        if not plain or plain.startswith(STANDARD_ROOT):
            return plain
        number = int.from_bytes(self._digest("uid", plain)[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76  # UUID version 8: made by the application (RFC 9562)
        number = number & ~(0b11 << 62) | 0b10 << 62
        return f"2.25.{number}"

    def patient(self, patient_id: str, study_uid: str) -> str:
        """Return the stand-in of a patient; a study without Patient ID is a patient of its own.

        The issuer of the id does not count: exports give it in some objects of a study and not in others.
        """
        plain = patient_id.strip(" \0")
        return opaque_id("patient", self.key, plain) if plain else opaque_id("patient", self.key, "", study_uid)

    def name(self, kind: str, uid: str) -> str:
        """Return the file or folder name of a study, series or instance."""
        return opaque_id(kind, self.key, uid)

    def shift_days(self, patient: str) -> int:
        """Return by how many days the dates of a patient move; negative."""
        low, high = SHIFT_DAYS
        return -(low + int.from_bytes(self._digest("shift", patient)[:8], "big") % (high - low + 1))

    def _digest(self, *parts: str) -> bytes:
        return hmac.new(self.key, json.dumps(parts).encode(), hashlib.sha256).digest()


def shift_date(text: str, days: int) -> str:
    """Return a DICOM date, or the date part of a date-time, moved by `days`; '' where it is no full date."""
    digits, rest = text.strip()[:8], text.strip()[8:]
    if len(digits) != 8 or not digits.isdecimal() or not set(rest) <= set("0123456789.+-"):
        return ""
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{day:%Y%m%d}{rest}" if day.year >= 1000 else ""
