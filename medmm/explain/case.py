"""The explanations of cases, put together from their parts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from medmm.config import TaskSpec
from medmm.explain.checks import CaseTests
from medmm.explain.counterfactual import counterfactuals
from medmm.explain.following import ranking_share
from medmm.explain.gradients import Contributions, contributions, trace
from medmm.explain.graph import concept_attributions, evidence_paths, mention_evidence
from medmm.explain.images import ask_images, cells_by_method, cells_to_attributions
from medmm.explain.methods import ExplanationMethods
from medmm.explain.modality import PartialAnswers, answer_parts, field_attributions, modality_shares
from medmm.explain.question import ask
from medmm.explain.text import integrated_pieces, pieces_to_sentences, pieces_to_words
from medmm.explain.volume import attribute_volume, place, speaks_for, title_of
from medmm.inputs import CaseReader, CaseView, collate
from medmm.model import ModelInputs
from medmm.results import ConceptAttribution, Diagnosis, Explanation, ModalityShare, TaskExplanation, TaskResult
from medmm.types import Note

if TYPE_CHECKING:
    from medmm.diagnose import Diagnoser


@dataclass(frozen=True, slots=True)
class _Explained:
    """A task's explanation and its map (S, D, H, W) on the network's grid, which tests of it start from."""

    task: TaskExplanation
    map: Tensor | None


@dataclass(frozen=True, slots=True)
class _CaseInParts:
    """A case, what the learned part reads of it, and what it answers to parts of that; all tasks start from it."""

    reader: CaseReader
    view: CaseView
    inputs: ModelInputs
    answers: PartialAnswers
    methods: ExplanationMethods


def explain_cases(
    diagnoser: "Diagnoser",
    views: Sequence[CaseView],
    diagnoses: Sequence[Diagnosis],
    level: Literal["fast", "full"],
    methods: ExplanationMethods,
) -> list[Explanation]:
    """Return the explanation of every task's most probable answer, for each case.

    `fast` costs one more pass over the fusion, and a backward pass a task, for all cases together; `full` adds, case by
    case, counterfactuals and tests that change the input and ask again.
    """
    reader = diagnoser.reader
    traced = trace(reader, views)
    parts: dict[str, list[Contributions]] = {}
    for task in reader.model.labels.fusion_tasks():
        targets = [task.index(diagnosis.tasks[task.name].prediction) for diagnosis in diagnoses]
        parts[task.name] = contributions(traced, task, targets)
    similar = diagnoser.loaded.training_cases
    return [
        replace(
            _explain_case(reader, view, diagnosis, {name: found[row] for name, found in parts.items()}, level, methods),
            similar=() if similar is None else similar.nearest(traced.embedding(row)),
            model_card=card_sections(diagnoser.card),
        )
        for row, (view, diagnosis) in enumerate(zip(views, diagnoses, strict=True))
    ]


def _explain_case(
    reader: CaseReader,
    view: CaseView,
    diagnosis: Diagnosis,
    parts: Mapping[str, Contributions],
    level: Literal["fast", "full"],
    methods: ExplanationMethods,
) -> Explanation:
    """One case, from what its inputs contributed to the answer of each task."""
    inputs = collate([view.features], reader)
    case = _CaseInParts(reader, view, inputs, answer_parts(reader, inputs), methods)
    tests = CaseTests(reader, view, methods.volume)
    tasks: dict[str, TaskExplanation] = {}
    for task in reader.model.labels.tasks:
        explained = _explain_task(case, task, diagnosis.tasks[task.name], parts.get(task.name, Contributions()))
        tasks[task.name] = _in_full(reader, view, task, explained, tests) if level == "full" else explained.task
    failed = [check.sentence for part in tasks.values() for check in part.checks if not check.is_passed]
    return Explanation(
        case=view.case,
        diagnosis=diagnosis,
        tasks=tasks,
        mentions=mention_evidence(view, reader.graph) if reader.graph is not None else (),
        notes=tuple(Note("explain.check", sentence) for sentence in failed),
    )


def _explain_task(case: _CaseInParts, task: TaskSpec, result: TaskResult, parts: Contributions) -> _Explained:
    """Return why a task got its most probable answer."""
    reader, view, method = case.reader, case.view, case.methods.volume
    index = task.index(result.prediction)
    question, found = ask(reader, view, task, index), None
    explained = TaskExplanation(task=task.name, target=result.prediction)
    if question is not None:
        found = attribute_volume(method, question, view, parts.lesion)
        roles = question.reader.config.volume.preprocessing.roles  # type: ignore[union-attr]  # there is a volume
        if speaks_for(method, found):
            title = title_of(method, task)
            volumes = place(found, view, roles, task=task.name, target=result.prediction, method=title)
            explained = replace(explained, volumes=volumes)
    elif parts.cells is not None and view.maps is not None:
        cells = cells_by_method(method, ask_images(reader, view, task, index), view.maps, parts)
        volumes = cells_to_attributions(cells, view, task=task.name, target=result.prediction, method=method)
        explained = replace(explained, volumes=volumes)
    if task.source == "location":
        return _Explained(_with_location(explained, view, task, result), found)
    explained = _with_graph(explained, reader, view, task.classes[index].concept, parts)
    explained = _with_text(explained, case, task, parts)
    return _Explained(_with_shares(explained, case, task), found)


def card_sections(card: str) -> dict[str, str]:
    """Return the second-level sections of a Markdown model card by title."""
    parts = re.split(r"^## +(.+)$", card, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def _in_full(
    reader: CaseReader, view: CaseView, task: TaskSpec, explained: _Explained, tests: CaseTests
) -> TaskExplanation:
    checked = replace(explained.task, checks=tests.run(explained.task, task, explained.map))
    if task.source == "location":
        return checked
    return replace(checked, counterfactuals=counterfactuals(reader, view, task, task.index(checked.target)))


def _with_location(explained: TaskExplanation, view: CaseView, task: TaskSpec, result: TaskResult) -> TaskExplanation:
    """A place is answered from the volume alone: the volume has the whole share."""
    prior = 1 / len(task.classes)
    has_volume = view.seen is not None
    share = ModalityShare(
        modality="volume", is_present=has_volume, share=result.confidence - prior if has_volume else 0.0
    )
    return replace(explained, modalities=(share,), baseline_probability=prior)


def _with_graph(
    explained: TaskExplanation, reader: CaseReader, view: CaseView, concept: str, parts: Contributions
) -> TaskExplanation:
    concepts: tuple[ConceptAttribution, ...] = ()
    if parts.nodes is not None and reader.graph is not None:
        concepts = concept_attributions(parts.nodes, view, reader.graph)
    return replace(explained, concepts=concepts, paths=evidence_paths(reader, view, concept))


def _with_text(explained: TaskExplanation, case: _CaseInParts, task: TaskSpec, parts: Contributions) -> TaskExplanation:
    encoded, report, pieces = case.view.encoded, case.view.case.report, parts.pieces
    if pieces is None or encoded is None or report is None:
        return explained
    title = "gradient x input"
    if case.methods.text == "integrated_gradients":
        pieces = integrated_pieces(case.reader, case.inputs, encoded, task, task.index(explained.target))
        title = "integrated gradients"
    return replace(
        explained,
        words=pieces_to_words(pieces, encoded, report),
        sentences=pieces_to_sentences(pieces, encoded, report),
        text_method=title,
    )


def _with_shares(explained: TaskExplanation, case: _CaseInParts, task: TaskSpec) -> TaskExplanation:
    index, record = task.index(explained.target), case.view.case.record
    shares, baseline = modality_shares(case.reader, case.answers, task, index)
    fields = () if record is None else field_attributions(case.reader, case.answers, record, task, index)
    ranking = ranking_share(case.reader, case.inputs, task, index)
    return replace(explained, fields=fields, modalities=shares, baseline_probability=baseline, ranking=ranking)
