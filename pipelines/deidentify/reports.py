"""Report files beside the images: scrubbed, and named by the pseudonym of their patient or study."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medmm.errors import InputError
from medmm.report.files import write_atomic
from medmm.report_matching import open_shelf
from medmm.report_reading import read_report
from pipelines.deidentify.pseudonyms import Pseudonyms
from pipelines.deidentify.text import Scrubber, graph_vocabulary, identifiers_of


@dataclass(slots=True)
class People:
    """Who was met in the images: what a report may name them by. Lives in memory only."""

    patient_of: dict[str, str] = field(default_factory=dict, repr=False)  # Patient ID or study UID to pseudonym
    study_of: dict[str, str] = field(default_factory=dict, repr=False)  # study UID to its patient's pseudonym
    names: dict[str, set[str]] = field(default_factory=dict, repr=False)  # pseudonym to identifiers

    def add(self, *, patient: str, patient_id: str, study_uid: str, identifiers: Iterable[str]) -> None:
        """Remember a file's people.

        Raises:
            InputError: `identity.conflict` where the study already belongs to another patient.
        """
        if self.study_of.setdefault(study_uid, patient) != patient:
            raise InputError(
                "Files of one study name two patients.",
                code="identity.conflict",
                remedy="Find out whose study this is; its other files were written under the patient met first.",
            )
        if patient_id.strip():
            self.patient_of[patient_id.strip()] = patient
        self.names.setdefault(patient, set()).update(identifiers)


def report_files(folder: Path) -> Mapping[str, Path]:
    """Return the report files of a folder by the stem of their name.

    Raises:
        UsageError: `config.table` where there is no such folder.
    """
    return open_shelf(folder).files


def deidentify_report(stem: str, path: Path, people: People, pseudonyms: Pseudonyms, output: Path) -> str:
    """Write the scrubbed copy of a report under `output/reports`; return its name there.

    Raises:
        InputError: `identity.conflict` where no image says whose it is; the codes of `read_report`.
    """
    patient = people.study_of.get(stem) or people.patient_of.get(stem)
    if patient is None:
        raise InputError(
            "The report belongs to no patient or study among the images, so its names are not known.",
            code="identity.conflict",
            remedy="Name it by Patient ID or Study Instance UID, and give the images too.",
        )
    name = f"{pseudonyms.uid(stem) if stem in people.study_of else patient}.txt"
    known = people.names[patient] | set(identifiers_of((), (stem,)))
    scrubber = Scrubber(known=tuple(sorted(known, key=lambda text: (-len(text), text))), vocabulary=graph_vocabulary())
    write_atomic(output / "reports" / name, scrubber.report(read_report(path).text).encode())
    return f"reports/{name}"
