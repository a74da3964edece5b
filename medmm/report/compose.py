"""From an explanation to the document of its case: every value that a writer may state, and none that it may not."""

from collections.abc import Mapping

import numpy as np

import medmm
from medmm.report import document as doc
from medmm.report.figures import AXES, plane_of
from medmm.report.files import safe_name
from medmm.report.grids import is_placed
from medmm.report.rounding import RULE, rounded, rounded_or_none
from medmm.results import (
    ConceptAttribution,
    Counterfactual,
    EvidencePath,
    Explanation,
    ExplanationCheck,
    MentionEvidence,
    ModelIdentity,
    RankingShare,
    Region,
    SentenceAttribution,
    TaskExplanation,
    TaskResult,
    ValueEstimate,
    VolumeAttribution,
    WordAttribution,
)
from medmm.types import Case, Note

DISCLAIMER = "Research software, not a medical device. Not for diagnosis or treatment decisions."
# Headings of radiology reports. A heading outside this list may hold anything, so it is not repeated.
_SECTIONS = {
    *("history", "clinical history", "indication", "clinical information", "technique", "comparison", "exam"),
    *("findings", "impression", "conclusion", "diagnosis", "discussion", "recommendation", "procedure", "narrative"),
}


def compose_document(explanation: Explanation) -> doc.CaseDocument:
    """The whole document, report text and words included, the draft still empty.

    Raises:
        ValueError: If a probability or another number that must be stated is not finite.
    """
    case, diagnosis = explanation.case, explanation.diagnosis
    heatmap_names: set[str] = set()
    mask_names: set[str] = set()
    outside = diagnosis.out_of_distribution
    return doc.CaseDocument(
        schema_version=doc.SCHEMA_VERSION,
        disclaimer=DISCLAIMER,
        case_id=case.case_id,
        abstained=diagnosis.abstained,
        tasks={
            name: _task(result, explanation.tasks.get(name), diagnosis.regions, heatmap_names)
            for name, result in diagnosis.tasks.items()
        },
        regions={name: _region(region, mask_names) for name, region in diagnosis.regions.items()},
        series=_series(case),
        present={name: bool(is_present) for name, is_present in diagnosis.present.items()},
        out_of_distribution=None
        if outside is None
        else doc.OutOfDistributionPart(
            score=rounded(outside.score), threshold=rounded(outside.threshold), is_flagged=bool(outside.is_flagged)
        ),
        mentions=tuple(_mention(mention) for mention in explanation.mentions),
        similar=tuple(
            doc.SimilarPart(case_id=near.case_id, similarity=rounded(near.similarity), labels=dict(near.labels))
            for near in explanation.similar
        ),
        notes=_notes(explanation),
        model_card={key: str(value) for key, value in explanation.model_card.items()},
        draft=doc.DraftPart(language="", findings=(), impression=(), basis=()),
        report_text=case.report.text if case.report else None,
        provenance=_provenance(case, diagnosis.model),
    )


def task_part(result: TaskResult) -> doc.TaskPart:
    """The answer alone, without why."""
    return _task(result, None, {}, set())


def is_drawable(attribution: VolumeAttribution) -> bool:
    """Whether a heatmap says anything: finite, three axes, and not the same everywhere."""
    values = attribution.values
    return values.ndim == 3 and values.size > 0 and bool(np.isfinite(values).all()) and float(np.ptp(values)) > 0


def drawable_heatmaps(why: TaskExplanation) -> list[VolumeAttribution]:
    """The heatmaps of a task that say anything, the one with the highest peak first."""
    drawable = [part for part in why.volumes if is_drawable(part)]
    return sorted(drawable, key=lambda part: -round(float(part.values.max()), 3))


def _task(
    result: TaskResult, why: TaskExplanation | None, regions: Mapping[str, Region], heatmap_names: set[str]
) -> doc.TaskPart:
    return doc.TaskPart(
        title=result.title,
        kind=result.kind,
        prediction=result.prediction,
        confidence=rounded(result.confidence),
        prediction_set=tuple(result.prediction_set),
        coverage=rounded(result.coverage),
        abstained=bool(result.abstained),
        abstain_reason=result.abstain_reason,
        classes=tuple(
            doc.ClassProbability(
                name=label.name, title=label.title, concept=label.concept, probability=rounded(probability)
            )
            for label, probability in zip(result.classes, result.probabilities, strict=True)
        ),
        estimate=None if result.estimate is None else _estimate(result.estimate),
        why=None if why is None else _why(why, regions, heatmap_names),
    )


def _estimate(estimate: ValueEstimate) -> doc.EstimatePart:
    value, low, high = (
        None if number is None else rounded(number) for number in (estimate.value, estimate.low, estimate.high)
    )
    return doc.EstimatePart(
        value=value, low=low, high=high, unit=estimate.unit, coverage=rounded(estimate.coverage),
        limit=rounded(estimate.limit),
    )  # fmt: skip


def _why(why: TaskExplanation, regions: Mapping[str, Region], heatmap_names: set[str]) -> doc.WhyPart:
    return doc.WhyPart(
        target=why.target,
        baseline_probability=rounded(why.baseline_probability),
        modalities=tuple(
            doc.ModalityPart(modality=part.modality, is_present=bool(part.is_present), share=rounded(part.share))
            for part in why.modalities
        ),
        heatmaps=tuple(_heatmap(part, regions, heatmap_names) for part in drawable_heatmaps(why)),
        words=tuple(_word(part) for part in why.words if np.isfinite(part.value)),
        fields=tuple(
            doc.FieldPart(name=part.name, value=part.value, attribution=rounded(part.attribution))
            for part in why.fields
            if np.isfinite(part.attribution)
        ),
        concepts=tuple(_concept(part) for part in why.concepts if np.isfinite(part.value)),
        paths=tuple(_path(part) for part in why.paths),
        checks=tuple(_check(part) for part in why.checks),
        sentences=tuple(_word(part) for part in why.sentences if np.isfinite(part.value)),
        text_method=why.text_method,
        counterfactuals=tuple(_counterfactual(part) for part in why.counterfactuals),
        ranking=None if why.ranking is None else _ranking(why.ranking),
    )


def _ranking(ranking: RankingShare) -> doc.RankingPart:
    return doc.RankingPart(
        task=ranking.task,
        title=ranking.title,
        attribution=rounded(ranking.attribution),
        candidates=tuple(
            doc.CandidatePart(name=part.name, title=part.title, share=rounded(part.share))
            for part in ranking.candidates
        ),
    )


def _counterfactual(found: Counterfactual) -> doc.CounterfactualPart:
    return doc.CounterfactualPart(
        kind=found.kind,
        removed=tuple(
            doc.RemovedPart(start=part.start, end=part.end, concept=part.concept, text=part.text)
            for part in found.removed
        ),
        answer=found.answer,
        probability=rounded(found.probability),
        is_smallest=found.is_smallest,
        n_candidates=found.n_candidates,
        n_asked=found.n_asked,
        budget=found.budget,
    )


def _word(word: WordAttribution | SentenceAttribution) -> doc.WordPart:
    return doc.WordPart(
        start=word.start, end=word.end, value=rounded(word.value), section=_section(word.section), text=word.text
    )


def _concept(part: ConceptAttribution) -> doc.ConceptPart:
    return doc.ConceptPart(
        concept=part.concept, name=part.name, kind=part.kind, origin=part.origin, value=rounded(part.value)
    )


def _path(path: EvidencePath) -> doc.PathPart:
    hops = tuple(
        doc.HopPart(
            subject=hop.subject,
            subject_name=hop.subject_name,
            predicate=hop.predicate,
            object=hop.object,
            object_name=hop.object_name,
            source=hop.source,
            source_version=hop.source_version,
            trust=rounded(hop.trust),
            is_forward=bool(hop.is_forward),
        )
        for hop in path.hops
    )
    return doc.PathPart(score=rounded(path.score), origin=path.origin, hops=hops)


def _check(check: ExplanationCheck) -> doc.CheckPart:
    return doc.CheckPart(
        name=check.name,
        value=rounded_or_none(check.value),
        reference=rounded_or_none(check.reference),
        is_passed=bool(check.is_passed),
        sentence=check.sentence,
    )


def _heatmap(part: VolumeAttribution, regions: Mapping[str, Region], heatmap_names: set[str]) -> doc.HeatmapPart:
    x, y, z = (rounded(value) for value in part.peak_ras_mm)
    holders = (name for name, region in regions.items() if region.is_found and _holds(region, part.peak_ras_mm))
    return doc.HeatmapPart(
        role=part.role,
        method=part.method,
        target=part.target,
        peak_index=part.peak_index,
        peak_slice=part.peak_index[AXES[plane_of(part.affine_ras, part.values.shape)]],
        peak_ras_mm=(x, y, z),
        peak_region=next(holders, None),
        file=f"heatmaps/{safe_name(f'{part.role}_{part.task}', taken=heatmap_names)}.nii.gz",
        share=rounded(part.share),
    )


def _holds(region: Region, point_ras_mm: tuple[float, float, float]) -> bool:
    index = np.rint((np.linalg.inv(region.affine_ras) @ np.array([*point_ras_mm, 1.0]))[:3]).astype(int)
    if (index < 0).any() or (index >= region.mask.shape).any():
        return False
    return bool(region.mask[tuple(index)])


def _region(region: Region, mask_names: set[str]) -> doc.RegionPart:
    plane = plane_of(region.affine_ras, region.mask.shape)
    counts = (region.mask > 0).sum(axis=tuple(axis for axis in range(3) if axis != AXES[plane]))
    slices = np.flatnonzero(counts)
    centre = None
    if slices.size:
        index = np.argwhere(region.mask > 0).mean(axis=0)
        x, y, z = (rounded(value) for value in (region.affine_ras @ np.array([*index, 1.0]))[:3])
        centre = (x, y, z)
    return doc.RegionPart(
        title=region.title,
        role=region.role,
        is_found=region.is_found,
        volume_ml=rounded(region.volume_ml) if is_placed(region.affine_ras, region.mask.shape) else None,
        voxel_count=int(counts.sum()),
        peak_probability=rounded(region.peak_probability),
        plane=plane,
        slice_count=int(counts.size),
        first_slice=int(slices[0]) if slices.size else None,
        last_slice=int(slices[-1]) if slices.size else None,
        largest_slice=int(np.argmax(counts)) if slices.size else None,
        centre_ras_mm=centre,
        file=f"masks/{safe_name(region.name, taken=mask_names)}.nii.gz" if slices.size else None,
    )


def _series(case: Case) -> tuple[doc.SeriesPart, ...]:
    parts = []
    for role, volume in case.volumes.items():
        i, j, k = (rounded(value) for value in volume.spacing_mm)
        parts.append(
            doc.SeriesPart(
                role=role,
                modality=volume.modality,
                unit=volume.unit,
                channel_count=int(volume.voxels.shape[0]),
                shape_voxels=volume.shape,
                spacing_mm=(i, j, k),
                affine_ras=tuple(tuple(float(value) for value in row) for row in volume.affine_ras),
                plane=plane_of(volume.affine_ras, volume.shape),
                is_placed=is_placed(volume.affine_ras, volume.shape),
            )
        )
    return tuple(parts)


def _mention(mention: MentionEvidence) -> doc.MentionPart:
    return doc.MentionPart(
        start=mention.start,
        end=mention.end,
        concept=mention.concept,
        name=mention.name,
        kind=mention.kind,
        status=mention.status,
        experiencer=mention.experiencer,
        temporality=mention.temporality,
        score=rounded(mention.score),
        text=mention.text,
    )


def _notes(explanation: Explanation) -> tuple[doc.NotePart, ...]:
    notes = [*explanation.case.all_notes(), *explanation.diagnosis.notes, *explanation.notes]
    for name, why in explanation.tasks.items():
        notes += [
            Note(
                "explain.failed", f"The heatmap of {part.role} for {name} is empty or not finite; no picture is shown."
            )
            for part in why.volumes
            if not is_drawable(part)
        ]
    return tuple(doc.NotePart(code=note.code, message=note.message) for note in dict.fromkeys(notes))


def _section(name: str) -> str:
    return name if name.strip().lower() in _SECTIONS else ""


def _provenance(case: Case, model: ModelIdentity) -> doc.ProvenancePart:
    return doc.ProvenancePart(
        medmm_version=medmm.__version__,
        model_name=model.name,
        model_version=model.version,
        weights_sha256=model.weights_sha256,
        graph_hash=model.graph_hash,
        input_sha256=dict(case.input_hashes),
        device=model.device,
        precision=model.precision,
        rounding=RULE,
    )
