"""`fhir.json`: the result as FHIR R5, a Bundle of DiagnosticReport, Observations, Device and ImagingStudy.

It needs the extra `fhir`. Every resource is preliminary and tagged as research. Where the source series are given, the
study and the patient are named by their identifiers; otherwise the subject is the opaque case id.
"""

import base64
import uuid
from typing import TYPE_CHECKING, Any

from medmm.report.document import CaseDocument, ClassProbability, RegionPart, TaskPart
from medmm.report.texts import Texts, load_texts
from medmm.report.words import answer_names, answer_titles, covers, percent, render_draft, title_of

if TYPE_CHECKING:
    from medmm.report.writers import WriteJob

Resource = dict[str, Any]

_NAMESPACE = uuid.UUID("6f0f2a4e-3b0e-5c52-9a54-0d6c1f1f7a11")  # of our resource ids; any fixed value does
_TASK_SYSTEM, _CLASS_SYSTEM = "urn:medmm:task", "urn:medmm:class"
_SYSTEMS = {"SCT": "http://snomed.info/sct", "RADLEX": "http://radlex.org", "HP": "http://human-phenotype-ontology.org"}
_RESEARCH = {
    "tag": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
            "code": "HRESCH",
            "display": "healthcare research",
        }
    ]
}
# A ranking can have thousands of classes; the most probable are stated.
_CLASSES_STATED = 25


def fhir_bundle(job: "WriteJob") -> str:
    """The Bundle as JSON text, checked against the models of fhir.resources; the same case gives the same bytes.

    Raises:
        InputError: `io.changed`, if a source file is no longer what it was.
    """
    from fhir.resources.bundle import Bundle

    texts = load_texts(job.lang)
    document = job.report.document(lang=job.lang)
    builder = _Builder(document, texts)
    study = builder.study(job)
    observations = [
        *(builder.answer(name, task) for name, task in document.tasks.items()),
        *(builder.region(name, part) for name, part in document.regions.items()),
    ]
    report = builder.report(observations, study)
    resources = [report, *observations, builder.device(), *([study] if study else [])]
    entries = [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources]
    bundle = Bundle.model_validate(
        {"resourceType": "Bundle", "type": "collection", "meta": _RESEARCH, "entry": entries}
    )
    return str(bundle.model_dump_json(indent=2)) + "\n"


class _Builder:
    """Builds the resources of one case as plain values."""

    def __init__(self, document: CaseDocument, texts: Texts) -> None:
        self._document = document
        self._texts = texts
        self._subject: Resource = {"identifier": {"system": "urn:medmm:case", "value": document.case_id}}

    def study(self, job: "WriteJob") -> Resource | None:
        """The imaging study and, from then on, the patient as subject; None where no source was given."""
        from medmm.dicom.references import read_identity

        if not job.sources:
            return None
        identity = read_identity(next(iter(job.sources.values())))
        if identity.PatientID:
            self._subject = {"identifier": {"value": str(identity.PatientID)}}
        series = [
            {
                "uid": part.series_uid,
                "modality": {
                    "coding": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": part.modality}]
                },
                "numberOfInstances": len(part.files),
            }
            for part in {part.series_uid: part for part in job.sources.values()}.values()
        ]
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{identity.StudyInstanceUID}"}
        return self._resource("ImagingStudy", "study", status="available", identifier=[uid], series=series)

    def device(self) -> Resource:
        """The model."""
        origin = self._document.provenance
        resource = self._resource(
            "Device",
            "device",
            manufacturer="medmm",
            displayName=f"{origin.model_name} {origin.model_version}",
            serialNumber=origin.weights_sha256,
            version=[{"value": f"medmm {origin.medmm_version}"}, {"value": f"model {origin.model_version}"}],
        )
        del resource["subject"]
        return resource

    def answer(self, name: str, task: TaskPart) -> Resource:
        """A question, its answer or why there is none, and the probabilities."""
        ranked = sorted(task.classes, key=lambda label: -label.probability)[:_CLASSES_STATED]
        kept = self._texts("draft.or").join(title_of(task, label) for label in task.prediction_set)
        note = self._texts("draft.set", coverage=percent(task.coverage), answers=kept or "–")
        value: Resource = {"valueCodeableConcept": _concept(task, task.prediction)}
        if task.kind == "multilabel":
            value = {"valueString": answer_titles(task, self._texts)}
        if task.abstained:
            reason = {"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}
            text = f"{self._texts('summary.no_answer')}. {self._texts.told(task.abstain_reason)}".strip()
            value = {"dataAbsentReason": {"coding": [reason], "text": text}}
        return self._observation(
            f"task:{name}",
            code={"coding": [{"system": _TASK_SYSTEM, "code": name}], "text": task.title or name},
            **({"note": [{"text": note}]} if covers(task) else {}),
            component=[
                {"code": _class_code(label), "valueQuantity": _quantity(label.probability, "1", "1")}
                for label in ranked
            ],
            **value,
        )

    def region(self, name: str, part: RegionPart) -> Resource:
        """A marked structure and its size."""
        if part.volume_ml is None:
            value = _quantity(float(part.voxel_count), "voxels", "{voxels}")
        else:
            value = _quantity(part.volume_ml, "ml", "mL")
        return self._observation(f"region:{name}", code={"text": part.title or name}, valueQuantity=value)

    def report(self, observations: list[Resource], study: Resource | None) -> Resource:
        """The report with its impression, the whole draft attached as text."""
        document = self._document
        draft = base64.b64encode(render_draft(document, self._texts).encode()).decode()
        codes = [
            _concept(task, name)
            for task in document.tasks.values()
            for name in answer_names(task)
            if not task.abstained and _coding(task, name)
        ]
        return self._resource(
            "DiagnosticReport",
            "report",
            status="preliminary",
            category=[{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
            code={"coding": [{"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}]},
            result=[_link(observation) for observation in observations],
            note=[{"text": document.disclaimer}],
            conclusion="\n".join(statement.text for statement in document.draft.impression),
            presentedForm=[
                {"contentType": "text/plain; charset=utf-8", "language": document.draft.language, "data": draft}
            ],
            **({"conclusionCode": codes} if codes else {}),
            **({"study": [_link(study)]} if study else {}),
        )

    def _observation(self, name: str, **values: Any) -> Resource:
        device = {"reference": f"urn:uuid:{self._id('device')}"}
        return self._resource("Observation", name, status="preliminary", device=device, **values)

    def _resource(self, kind: str, name: str, **values: Any) -> Resource:
        return {
            "resourceType": kind,
            "id": self._id(name),
            "meta": _RESEARCH,
            "subject": self._subject,
            **values,
        }

    def _id(self, name: str) -> str:
        origin = self._document.provenance
        return str(uuid.uuid5(_NAMESPACE, f"{self._document.case_id}/{origin.weights_sha256}/{name}"))


def _link(resource: Resource) -> Resource:
    return {"reference": f"urn:uuid:{resource['id']}"}


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": code}


def _concept(task: TaskPart, name: str) -> Resource:
    coding = [{"system": _CLASS_SYSTEM, "code": name}]
    return {"coding": [*_coding(task, name), *coding], "text": title_of(task, name) or name}


def _coding(task: TaskPart, name: str) -> list[Resource]:
    """The answer's concept, where it is of a terminology that FHIR names."""
    concept = next((label.concept for label in task.classes if label.name == name), "")
    prefix, _, code = concept.partition(":")
    if prefix not in _SYSTEMS or not code:
        return []
    return [{"system": _SYSTEMS[prefix], "code": concept if prefix == "HP" else code}]


def _class_code(label: ClassProbability) -> Resource:
    return {"coding": [{"system": _CLASS_SYSTEM, "code": label.name}], "text": label.title or label.name}
