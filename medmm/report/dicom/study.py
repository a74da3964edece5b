"""What all DICOM results of a case share: the study they belong to, who made them, and fresh identifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medmm.dicom.references import OF_STUDY, SourceStack, read_source
from medmm.report.document import ProvenancePart
from medmm.report.texts import Texts, load_texts

if TYPE_CHECKING:
    from pydicom import Dataset

    from medmm.report.content import CaseReport
    from medmm.report.writers import WriteJob

MANUFACTURER = "medmm"
RESEARCH_USE = "Research use only, not for diagnosis"
# Beyond the numbers that scanners give to series.
SERIES_NUMBERS = {"seg": 9801, "pm": 9802, "sc": 9803, "epdf": 9804, "sr": 9805}
_TITLES = {"seg": "masks", "pm": "heatmaps", "sc": "key slices", "epdf": "report", "sr": "structured report"}
_LONG_STRING = 64  # characters of a value of VR LO


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultStudy:
    """The source of a case's results, and the report that they are made of."""

    report: "CaseReport"
    stacks: Mapping[str, SourceStack]
    texts: Texts
    created: datetime

    @classmethod
    def of(cls, job: "WriteJob") -> "ResultStudy":
        """Read the headers of the sources.

        Raises:
            InputError: `output.source` for sources that results cannot refer to; `io.changed`.
        """
        return cls(
            report=job.report,
            stacks={role: read_source(series) for role, series in job.sources.items()},
            texts=load_texts(job.lang),
            created=datetime.now(UTC),
        )

    @property
    def datasets(self) -> "tuple[Dataset, ...]":
        """Headers of all source instances."""
        return tuple(dataset for stack in self.stacks.values() for dataset in stack.datasets)

    @property
    def provenance(self) -> ProvenancePart:
        """Versions and hashes."""
        return self.report.content.provenance

    def equipment(self) -> dict[str, Any]:
        """Who made the result, as highdicom takes it."""
        origin = self.provenance
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": long_string(origin.model_name),
            "software_versions": [f"medmm {origin.medmm_version}", long_string(f"model {origin.model_version}")],
            "device_serial_number": long_string(origin.weights_sha256),
        }

    def series(self, kind: str) -> dict[str, Any]:
        """Identity of a new series of a kind, as highdicom takes it."""
        return {
            "series_instance_uid": new_uid(),
            "series_number": SERIES_NUMBERS[kind],
            "series_description": f"medmm {_TITLES[kind]} (research use only)",
        }

    def complete(self, result: "Dataset") -> None:
        """Add what identifies patient and study in the source and is not in the result yet."""
        source = self.datasets[0]
        for keyword in OF_STUDY:
            if keyword in source and keyword not in result:
                result.add(source[keyword])

    def is_burned_in(self) -> bool:
        """Whether the source's pixels may hold text or a face that identifies."""
        return any(note.code == "image.burned_in" for note in self.report.content.notes)


def new_uid() -> str:
    """A UID of its own (UUID-derived, PS3.5 B.2)."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def long_string(text: str) -> str:
    r"""Text as VR LO takes it: at most 64 characters, no backslash, no control characters."""
    kept = "".join(" " if letter == "\\" or not letter.isprintable() else letter for letter in text)
    return kept.strip()[:_LONG_STRING]
