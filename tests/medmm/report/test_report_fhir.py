"""FHIR R5 and PDF: optional packages."""

import base64
import json
import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from report_examples import make_explanation
from report_sources import PATIENT, STUDY, write_sources

from medmm.errors import UsageError
from medmm.report import writers
from medmm.results import Explanation


def _resources(folder: Path, kind: str) -> list[dict[str, Any]]:
    entries = json.loads((folder / "fhir.json").read_text(encoding="utf-8"))["entry"]
    return [entry["resource"] for entry in entries if entry["resource"]["resourceType"] == kind]


def test_bundle_is_valid_r5_and_preliminary(explanation: Explanation, tmp_path: Path) -> None:
    bundle = pytest.importorskip("fhir.resources.bundle")
    explanation.report().save(tmp_path, formats=["fhir"])

    parsed = bundle.Bundle.model_validate_json((tmp_path / "fhir.json").read_text(encoding="utf-8"))

    assert parsed.type == "collection"
    (report,) = _resources(tmp_path, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert "Side: Right side" in report["conclusion"]
    draft = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert draft == explanation.report().draft_text()
    side, grade, tumour = _resources(tmp_path, "Observation")
    assert side["valueCodeableConcept"]["text"] == "Right side"
    assert {part["valueQuantity"]["value"] for part in side["component"]} == {0.97, 0.03}
    assert grade["dataAbsentReason"]["text"].startswith("No answer given.")
    assert "valueCodeableConcept" not in grade
    assert tumour["valueQuantity"]["code"] == "mL"


def test_study_and_patient_are_named_where_sources_are_given(explanation: Explanation, tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources")
    source = write_sources(tmp_path / "in", explanation)

    explanation.report().save(tmp_path / "with", formats=["fhir"], sources=source.series)
    explanation.report().save(tmp_path / "without", formats=["fhir"])

    (study,) = _resources(tmp_path / "with", "ImagingStudy")
    assert study["identifier"][0]["value"] == f"urn:oid:{STUDY['StudyInstanceUID']}"
    assert {part["numberOfInstances"] for part in study["series"]} == {6}
    assert study["subject"]["identifier"]["value"] == PATIENT["PatientID"]
    assert _resources(tmp_path / "without", "ImagingStudy") == []
    assert PATIENT["PatientID"] not in (tmp_path / "without" / "fhir.json").read_text(encoding="utf-8")


def test_same_case_gives_the_same_bundle(tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources")

    for name in ("a", "b"):
        make_explanation().report().save(tmp_path / name, formats=["fhir"])

    assert (tmp_path / "a" / "fhir.json").read_bytes() == (tmp_path / "b" / "fhir.json").read_bytes()


@pytest.mark.bad_input("I6")
@pytest.mark.parametrize("lang", ["en", pytest.param("zh", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("weasyprint")
def test_pdf_has_pages(explanation: Explanation, tmp_path: Path, lang: str) -> None:
    saved = explanation.report().save(tmp_path, formats=["pdf"], lang=lang)

    assert saved.pdf is not None
    assert saved.pdf.read_bytes().startswith(b"%PDF-")


@pytest.mark.slow
@pytest.mark.bad_input("D4")
@pytest.mark.usefixtures("weasyprint")
def test_pdf_asks_for_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weasyprint.urls import URLFetcher

    asked: list[str] = []
    fetch = URLFetcher.fetch
    monkeypatch.setattr(URLFetcher, "fetch", lambda self, url, *rest: (asked.append(url), fetch(self, url, *rest))[1])
    hostile = make_explanation(lambda text: f'{text}<img src="http://203.0.113.1/x.png">')

    hostile.report().without_images().save(tmp_path, formats=["pdf"])

    assert [url for url in asked if not url.startswith("data:")] == []


def test_missing_system_library_is_named(
    monkeypatch: pytest.MonkeyPatch, explanation: Explanation, tmp_path: Path
) -> None:
    monkeypatch.setattr(writers, "find_spec", lambda name: find_spec("json"))
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)

    class NoPango(MetaPathFinder):
        def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
            if fullname == "weasyprint":
                raise OSError("cannot load library 'libpango-1.0-0'")

    monkeypatch.setattr(sys, "meta_path", [NoPango(), *sys.meta_path])

    with pytest.raises(UsageError, match="Pango"):
        explanation.report().save(tmp_path, formats=["pdf"])


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, explanation: Explanation, tmp_path: Path) -> None:
    monkeypatch.setattr(writers, "find_spec", lambda name: None if name == "weasyprint" else find_spec(name))

    with pytest.raises(UsageError, match="'pdf'") as caught:
        explanation.report().save(tmp_path, formats=["html", "pdf"])

    assert "medmm[pdf]" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
