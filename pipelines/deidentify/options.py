"""Which options of PS3.15 Annex E are applied on top of the basic profile, and how a file says so."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

STANDARD = "DICOM PS3.15 Annex E, Table E.1-1, edition 2026c"

# Code values of PS3.16 CID 7050, De-identification Method.
BASIC = ("113100", "Basic Application Confidentiality Profile")
CODES: dict[str, tuple[str, str]] = {
    "clean_pixels": ("113101", "Clean Pixel Data Option"),
    "clean_content": ("113104", "Clean Structured Content Option"),
    "clean_descriptors": ("113105", "Clean Descriptors Option"),
    "shift_dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "keep_characteristics": ("113108", "Retain Patient Characteristics Option"),
    "keep_device": ("113109", "Retain Device Identity Option"),
}
# The column of the action table that each option switches on.
COLUMNS: dict[str, str] = {
    "keep_device": "device",
    "keep_characteristics": "characteristics",
    "shift_dates": "dates",
    "clean_descriptors": "descriptors",
    "clean_content": "content",
}


class Options(BaseModel):
    """What is kept beyond the basic profile. All off is the basic profile itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift_dates: bool = Field(False, description="Dates move back by whole days, the same for all of a patient.")
    clean_descriptors: bool = Field(False, description="Descriptions stay, reduced to words of the allow-list.")
    keep_device: bool = Field(False, description="Station names, serial numbers and device ids stay.")
    keep_characteristics: bool = Field(False, description="Sex, age (capped at 90 years), size and weight stay.")
    clean_content: bool = Field(False, description="Structured reports are written, their text scrubbed.")
    masks: Path | None = Field(None, description="CSV of image regions to blank.")

    def methods(self, *, has_clean_pixels: bool) -> tuple[tuple[str, str], ...]:
        """Return (code value, meaning) of the profile and each option applied to a file."""
        applied = [name for name in CODES if name != "clean_pixels" and getattr(self, name)]
        return (BASIC, *(CODES[name] for name in (["clean_pixels"] if has_clean_pixels else []) + applied))
