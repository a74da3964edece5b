"""The explanation of a case, put together from its parts."""

import re
from typing import TYPE_CHECKING, Literal

from medmm.config import TaskSpec
from medmm.explain.checks import check_explanation
from medmm.explain.gradients import Traced, contributions, trace
from medmm.explain.graph import concept_attributions, evidence_paths, mention_evidence
from medmm.explain.images import cells_to_attributions
from medmm.explain.modality import field_attributions, modality_shares
from medmm.explain.text import pieces_to_words
from medmm.explain.volume import lesion_to_attribution, region_to_attribution
from medmm.inputs import CaseView
from medmm.results import Diagnosis, Explanation, ModalityShare, TaskExplanation, VolumeAttribution
from medmm.types import Case, Note

if TYPE_CHECKING:
    from medmm.diagnose import Diagnoser


def explain_case(
    diagnoser: "Diagnoser", case: Case, diagnosis: Diagnosis, level: Literal["fast", "full"]
) -> Explanation:
    """Return the explanation of every task's most probable answer.

    `fast` costs one more pass over the text encoder and the fusion, and a backward pass a task; `full` adds tests that
    change the input and ask again.
    """
    view = diagnoser.view(case)
    traced = trace(diagnoser.reader, view)
    tasks: dict[str, TaskExplanation] = {}
    notes: list[Note] = []
    for task in diagnoser.model.labels.tasks:
        if task.source == "location":
            tasks[task.name] = _explain_location(view, task, diagnosis)
            continue
        explained = _explain_fusion(diagnoser, view, traced, task, diagnosis)
        if level == "full":
            explained, failed = check_explanation(diagnoser, view, task, explained)
            notes.extend(Note("explain.check", sentence) for sentence in failed)
        tasks[task.name] = explained
    graph = diagnoser.reader.graph
    return Explanation(
        case=case,
        diagnosis=diagnosis,
        tasks=tasks,
        mentions=mention_evidence(view, graph) if graph is not None else (),
        notes=tuple(notes),
        model_card=card_sections(diagnoser.card),
    )


def card_sections(card: str) -> dict[str, str]:
    """Return the second-level sections of a Markdown model card by title."""
    parts = re.split(r"^## +(.+)$", card, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def _explain_location(view: CaseView, task: TaskSpec, diagnosis: Diagnosis) -> TaskExplanation:
    result = diagnosis.tasks[task.name]
    attribution = region_to_attribution(view, task.name, result.prediction)
    prior = 1 / len(task.classes)
    share = result.confidence - prior if view.seen is not None else 0.0
    return TaskExplanation(
        task=task.name,
        target=result.prediction,
        volumes=() if attribution is None else (attribution,),
        modalities=(ModalityShare(modality="volume", is_present=view.seen is not None, share=share),),
        baseline_probability=prior,
    )


def _explain_fusion(
    diagnoser: "Diagnoser", view: CaseView, traced: Traced, task: TaskSpec, diagnosis: Diagnosis
) -> TaskExplanation:
    reader, target = diagnoser.reader, diagnosis.tasks[task.name].prediction
    index = task.index(target)
    parts = contributions(traced, task.name, index, is_independent=task.kind == "multilabel")
    volumes: tuple[VolumeAttribution, ...] = ()
    if parts.cells is not None:
        volumes = cells_to_attributions(parts.cells, view, task.name, target)
    elif parts.lesion is not None:
        attribution = lesion_to_attribution(parts.lesion, view, reader.model, task.name, target)
        volumes = () if attribution is None else (attribution,)
    report, record = view.case.report, view.case.record
    shares, baseline = modality_shares(reader, traced.inputs, task, index)
    return TaskExplanation(
        task=task.name,
        target=target,
        volumes=volumes,
        words=pieces_to_words(parts.pieces, view.encoded, report)
        if parts.pieces is not None and view.encoded is not None and report is not None
        else (),
        fields=field_attributions(reader, traced.inputs, record, task, index) if record is not None else (),
        concepts=concept_attributions(parts.nodes, view, reader.graph)
        if parts.nodes is not None and reader.graph is not None
        else (),
        paths=evidence_paths(reader, view, task.classes[index].concept),
        modalities=shares,
        baseline_probability=baseline,
    )
