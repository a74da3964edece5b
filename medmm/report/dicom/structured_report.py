"""The structured report: TID 1500 with a group per marked region and per question, and the draft in words.

It is complete, preliminary and UNVERIFIED: no person has looked at it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medmm.report.dicom.codes import class_code, coding_schemes, private_code
from medmm.report.dicom.images import algorithm_parameters, regions_of
from medmm.report.dicom.study import MANUFACTURER, ResultStudy, long_string, new_uid
from medmm.report.document import ClassProbability, StatementPart, TaskPart
from medmm.report.texts import Texts
from medmm.report.words import answer_names, covers, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from highdicom.seg import Segmentation
    from highdicom.sr import AlgorithmIdentification, ComprehensiveSR, ContainerContentItem
    from pydicom import Dataset

# A ranking can have thousands of classes; the most probable are stated.
_CLASSES_STATED = 25
_LANGUAGES = {"en": ("en-US", "English (United States)"), "zh": ("zh-CN", "Chinese (China)")}


def structured_report(study: ResultStudy, masks: "Mapping[str, Segmentation]") -> "ComprehensiveSR":
    """The report of a case.

    Args:
        study: The case and its source.
        masks: Segmentations by role that were written with it; regions without one are described without their outline.
    """
    from highdicom.sr import (
        CodedConcept,
        ComprehensiveSR,
        LanguageOfContentItemAndDescendants,
        MeasurementReport,
    )
    from pydicom.sr.codedict import codes

    value, meaning = _LANGUAGES[study.texts.language]
    report = MeasurementReport(
        observation_context=_observer(study),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[*_regions(study, masks), *_questions(study)],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept(value, "RFC5646", meaning)
        ),
    )
    report[0].ContentSequence.extend(_words(study))
    evidence: list[Dataset] = [*study.datasets, *masks.values()]
    identity = study.series("sr")
    document = ComprehensiveSR(
        evidence=evidence,
        content=report[0],
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=coding_schemes(),
        **identity,
    )
    document.ManufacturerModelName = study.equipment()["manufacturer_model_name"]
    document.SoftwareVersions = study.equipment()["software_versions"]
    return document


def _observer(study: ResultStudy) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    origin = study.provenance
    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["medmm", origin.weights_sha256, origin.model_version]),  # the same for a model
        name=long_string(f"medmm {origin.medmm_version}"),
        manufacturer_name=MANUFACTURER,
        model_name=long_string(f"{origin.model_name} {origin.model_version}"),
    )
    return ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )


def _algorithm(study: ResultStudy) -> "AlgorithmIdentification":
    from highdicom.sr import AlgorithmIdentification

    origin = study.provenance
    parameters = [f"{name}={value}" for name, value in algorithm_parameters(study).items()]
    return AlgorithmIdentification(origin.model_name, version=origin.model_version, parameters=parameters)


def _regions(study: ResultStudy, masks: "Mapping[str, Segmentation]") -> "Iterator[Any]":
    """A group per region: its size and, where a segmentation was written, which segment it is."""
    from highdicom.sr import (
        CodedConcept,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    for role, stack in study.stacks.items():
        for number, region in enumerate(regions_of(study, role), start=1):
            part = study.report.content.regions[region.name]
            measurements = [_probability(codes.DCM.Probability, part.peak_probability)]
            if part.volume_ml is not None:
                unit = CodedConcept("ml", "UCUM", "ml")
                measurements.append(Measurement(codes.SCT.Volume, part.volume_ml, unit))
            segmentation = masks.get(role)
            shared: dict[str, Any] = {
                "finding_type": private_code(region.name, region.title),
                "algorithm_id": _algorithm(study),
                "measurements": measurements,
            }
            if segmentation is None:
                tracking = TrackingIdentifier(uid=new_uid(), identifier=region.name)
                yield MeasurementsAndQualitativeEvaluations(tracking_identifier=tracking, **shared)
                continue
            described = segmentation.SegmentSequence[number - 1]
            yield VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(uid=described.TrackingUID, identifier=described.TrackingID),
                referenced_segment=ReferencedSegment(
                    sop_class_uid=segmentation.SOPClassUID,
                    sop_instance_uid=segmentation.SOPInstanceUID,
                    segment_number=number,
                    source_series=SourceSeriesForSegmentation(stack.datasets[0].SeriesInstanceUID),
                ),
                **shared,
            )


def _questions(study: ResultStudy) -> "Iterator[Any]":
    """A group per question: the answer or that there is none, what was not excluded, and the probabilities."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, QualitativeEvaluation, TrackingIdentifier
    from pydicom.sr.codedict import codes

    for name, task in study.report.content.tasks.items():
        question = private_code(name, task.title)
        labels = {label.name: label for label in task.classes}
        kept = private_code("prediction_set", f"Not excluded at {percent(task.coverage)} coverage")
        ranked = sorted(task.classes, key=lambda label: -label.probability)[:_CLASSES_STATED]
        measurements = [
            _probability(private_code(f"p:{label.name}", f"Probability of {label.title}"), label.probability)
            for label in ranked
        ]
        if not task.abstained:
            measurements.insert(0, _probability(codes.DCM.Probability, task.confidence))
        yield MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=new_uid(), identifier=name),
            finding_type=question,
            algorithm_id=_algorithm(study),
            measurements=measurements,
            qualitative_evaluations=[
                *(QualitativeEvaluation(question, answer) for answer in _answers(task, labels, study.texts)),
                *(QualitativeEvaluation(kept, class_code(labels[label])) for label in _set(task)),
            ],
        )


def _answers(task: TaskPart, labels: "Mapping[str, ClassProbability]", texts: Texts) -> "list[Any]":
    """Codes of the answer: one, but every finding that reaches its threshold where several can be true."""
    if task.abstained:
        return [private_code("abstained", texts("summary.no_answer"))]
    found = [class_code(labels[name]) for name in answer_names(task)[:_CLASSES_STATED]]
    return found or [private_code("none_found", texts("summary.none_above"))]


def _set(task: TaskPart) -> "Sequence[str]":
    return task.prediction_set[:_CLASSES_STATED] if covers(task) else ()


def _probability(name: Any, value: float) -> Any:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    return Measurement(name, value, codes.UCUM.NoUnits)


def _words(study: ResultStudy) -> "Iterator[ContainerContentItem]":
    """The draft as containers of sentences; the disclaimer is the first comment."""
    from pydicom.sr.codedict import codes

    document = study.report.document(lang=study.texts.language)
    draft = document.draft
    basis = (StatementPart(text=study.texts("banner.disclaimer"), sources=("/disclaimer",)), *draft.basis)
    yield _container(codes.DCM.Findings, codes.DCM.Finding, draft.findings)
    yield _container(codes.DCM.Impressions, codes.DCM.Impression, draft.impression)
    yield _container(codes.DCM.Summary, codes.DCM.Comment, basis)


def _container(heading: Any, item: Any, statements: "Sequence[StatementPart]") -> "ContainerContentItem":
    from highdicom.sr import ContainerContentItem, ContentSequence, RelationshipTypeValues, TextContentItem

    container = ContainerContentItem(name=heading, relationship_type=RelationshipTypeValues.CONTAINS)
    container.ContentSequence = ContentSequence(
        [TextContentItem(item, part.text, RelationshipTypeValues.CONTAINS) for part in statements]
    )
    return container
