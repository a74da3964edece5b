"""A case's report: its document (numbers and words) with the arrays behind it, and saving it in several formats."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmm.report.compose import compose_document, drawable_heatmaps
from medmm.report.document import CaseDocument, CounterfactualPart
from medmm.report.texts import load_texts
from medmm.report.words import render_draft, write_draft
from medmm.report.writers import FORMATS, CasePaths, WriteJob, write_report
from medmm.results import Explanation, Region, VolumeAttribution
from medmm.types import Volume

if TYPE_CHECKING:
    from medmm.dicom.types import Series

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "CasePaths",
    "CaseReport",
    "build_case_report",
    "explanation_to_dict",
]
DEFAULT_FORMATS = ("html", "json", "nii")
# Without the report's text, only where the strongest words stand is kept.
_WORDS_WITHOUT_TEXT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """Everything a writer needs, and no model: the document, volumes by role, heatmaps by file, masks by region.

    `content` holds the report's text and words; writers take `document()`, which leaves them out unless asked.
    """

    content: CaseDocument
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    heatmaps: Mapping[str, VolumeAttribution] = field(default_factory=dict)
    masks: Mapping[str, Region] = field(default_factory=dict)

    def with_run(
        self, *, config_sha256: str, seed: int, started_utc: str | None = None, finished_utc: str | None = None
    ) -> "CaseReport":
        """The same report, its provenance naming the batch run that made it."""
        run = {
            "config_sha256": config_sha256,
            "seed": seed,
            "started_utc": started_utc,
            "finished_utc": finished_utc,
        }
        provenance = self.content.provenance.model_copy(update=run)
        return self.with_content(self.content.model_copy(update={"provenance": provenance}))

    def with_content(self, content: CaseDocument) -> "CaseReport":
        """The same arrays under another document."""
        return replace(self, content=content)

    def without_images(self) -> "CaseReport":
        """The same report with no picture of the patient: no viewer and no key slices (heatmap and mask files stay)."""
        return replace(self, volumes={})

    def document(self, *, lang: str = "en", include_report_text: bool = False) -> CaseDocument:
        """What may be written: the draft in a language, the report's text and words only where asked for."""
        content = self.content if include_report_text else _without_report_text(self.content)
        draft = write_draft(content, load_texts(lang))
        return content.model_copy(update={"draft": draft})

    def to_json(self, *, lang: str = "en", include_report_text: bool = False) -> str:
        """The text of `case.json`; the same report gives the same bytes."""
        document = self.document(lang=lang, include_report_text=include_report_text)
        values = document.model_dump(mode="json")
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def draft_text(self, *, lang: str = "en") -> str:
        """The draft findings and impression as plain text, for editing; the disclaimer stands first and last."""
        return render_draft(self.document(lang=lang), load_texts(lang))

    def save(
        self,
        out_dir: str | Path,
        formats: Iterable[str] = DEFAULT_FORMATS,
        lang: str = "en",
        include_report_text: bool = False,
        sources: "Mapping[str, Series] | None" = None,
    ) -> CasePaths:
        """Write the report into `out_dir` (the case's own folder) and return the paths.

        Args:
            out_dir: Created if missing; files of the same names are replaced, each in one step.
            formats: Some of `html` (report.html), `json` (case.json), `nii` (heatmaps/ and masks/), `txt` (draft.txt),
                `pdf` (report.pdf), `fhir` (fhir.json), and in dicom/: `seg` (masks), `pm` (heatmaps), `sc` (key
                slices), `epdf` (the PDF in DICOM), `sr` (structured report).
            lang: `en` or `zh`.
            include_report_text: Show the report's text and words; without it no word of the report is written.
            sources: The series behind the volumes by role (`medmm.discover`). The DICOM formats need them: they belong
                to the patient's study and carry its identity; `fhir` names the study where they are given.
        Raises:
            ValueError: If a format or language is unknown; nothing is written then.
            UsageError: `config.key`, if a format needs a package that is not installed.
            InputError: `output.source`, if DICOM results are asked for and there are no sources (nothing is written
                then), or they cannot be referred to (other formats are written by then).
            StopRun: If the disk is full.
        """
        job = WriteJob(
            report=self,
            folder=Path(out_dir),
            lang=lang,
            include_report_text=include_report_text,
            sources=sources or {},
        )
        return write_report(job, formats)


def build_case_report(explanation: Explanation) -> CaseReport:
    """The report of an explained case.

    Heatmaps that are not finite or the same everywhere are left out, with a note `explain.failed`.

    Raises:
        ValueError: If a number that must be stated is not finite.
    """
    content = compose_document(explanation)
    heatmaps: dict[str, VolumeAttribution] = {}
    for name, task in content.tasks.items():
        if task.why:
            parts = drawable_heatmaps(explanation.tasks[name])
            heatmaps.update({entry.file: part for entry, part in zip(task.why.heatmaps, parts, strict=True)})
    masks = {name: region for name, region in explanation.diagnosis.regions.items() if region.is_found}
    return CaseReport(content=content, volumes=explanation.case.volumes, heatmaps=heatmaps, masks=masks)


def explanation_to_dict(explanation: Explanation, *, include_report_text: bool = False) -> dict[str, Any]:
    """The explanation as in `case.json`: JSON-ready, English; the report's words only where asked for."""
    document = build_case_report(explanation).document(include_report_text=include_report_text)
    return document.model_dump(mode="json")


def _without_report_text(content: CaseDocument) -> CaseDocument:
    """The document with no word of the report: offsets of the strongest words stay, and concepts by their names."""
    tasks = {}
    for name, task in content.tasks.items():
        if task.why:
            strongest = sorted(task.why.words, key=lambda word: (-abs(word.value), word.start))[:_WORDS_WITHOUT_TEXT]
            words = tuple(word.model_copy(update={"text": None}) for word in strongest)
            silent = {
                "words": words,
                "sentences": tuple(part.model_copy(update={"text": None}) for part in task.why.sentences),
                "counterfactuals": tuple(_without_sentences(part) for part in task.why.counterfactuals),
            }
            task = task.model_copy(update={"why": task.why.model_copy(update=silent)})  # noqa: PLW2901
        tasks[name] = task
    mentions = tuple(mention.model_copy(update={"text": None}) for mention in content.mentions)
    return content.model_copy(update={"tasks": tasks, "mentions": mentions, "report_text": None})


def _without_sentences(found: CounterfactualPart) -> CounterfactualPart:
    """Sentences by their offsets only; concepts keep the names that the graph gives them."""
    if found.kind != "sentences":
        return found
    return found.model_copy(update={"removed": tuple(part.model_copy(update={"text": None}) for part in found.removed)})
