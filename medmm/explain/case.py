"""The explanation of a case, put together from its parts."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from medmm.config import TaskSpec
from medmm.explain.checks import CaseTests
from medmm.explain.counterfactual import counterfactuals
from medmm.explain.gradients import Contributions, Traced, contributions, trace
from medmm.explain.graph import concept_attributions, evidence_paths, mention_evidence
from medmm.explain.images import ask_images, cells_by_method, cells_to_attributions
from medmm.explain.methods import ExplanationMethods
from medmm.explain.modality import field_attributions, modality_shares
from medmm.explain.question import ask
from medmm.explain.text import integrated_pieces, pieces_to_sentences, pieces_to_words
from medmm.explain.volume import attribute_volume, place, speaks_for, title_of
from medmm.inputs import CaseReader, CaseView
from medmm.results import ConceptAttribution, Diagnosis, Explanation, ModalityShare, TaskExplanation, TaskResult
from medmm.types import Case, Note

if TYPE_CHECKING:
    from medmm.diagnose import Diagnoser


@dataclass(frozen=True, slots=True)
class _Explained:
    """A task's explanation and its map (S, D, H, W) on the network's grid, which tests of it start from."""

    task: TaskExplanation
    map: Tensor | None


def explain_case(
    diagnoser: "Diagnoser",
    case: Case,
    diagnosis: Diagnosis,
    level: Literal["fast", "full"],
    methods: ExplanationMethods,
) -> Explanation:
    """Return the explanation of every task's most probable answer.

    `fast` costs one more pass over the text encoder and the fusion, and a backward pass a task; `full` adds
    counterfactuals and tests that change the input and ask again.
    """
    reader, view = diagnoser.reader, diagnoser.view(case)
    traced = trace(reader, view)
    tests = CaseTests(reader, view, methods.volume)
    tasks: dict[str, TaskExplanation] = {}
    for task in reader.model.labels.tasks:
        explained = explain_task(reader, view, traced, task, diagnosis.tasks[task.name], methods)
        if level == "full":
            tasks[task.name] = _in_full(reader, view, task, explained, tests)
        else:
            tasks[task.name] = explained.task
    failed = [check.sentence for part in tasks.values() for check in part.checks if not check.is_passed]
    similar = diagnoser.loaded.training_cases
    return Explanation(
        case=case,
        diagnosis=diagnosis,
        tasks=tasks,
        mentions=mention_evidence(view, reader.graph) if reader.graph is not None else (),
        similar=() if similar is None else similar.nearest(traced.embedding()),
        notes=tuple(Note("explain.check", sentence) for sentence in failed),
        model_card=card_sections(diagnoser.card),
    )


def explain_task(
    reader: CaseReader, view: CaseView, traced: Traced, task: TaskSpec, result: TaskResult, methods: ExplanationMethods
) -> _Explained:
    """Return why a task got its most probable answer."""
    index = task.index(result.prediction)
    parts = contributions(traced, task, index) if task.source == "fusion" else Contributions()
    question, found = ask(reader, view, task, index), None
    explained = TaskExplanation(task=task.name, target=result.prediction)
    if question is not None:
        found = attribute_volume(methods.volume, question, view, parts.lesion)
        roles = question.reader.config.volume.preprocessing.roles  # type: ignore[union-attr]  # there is a volume
        title = title_of(methods.volume, task)
        if speaks_for(methods.volume, found):
            volumes = place(found, view, roles, task=task.name, target=result.prediction, method=title)
            explained = replace(explained, volumes=volumes)
    elif parts.cells is not None and view.maps is not None:
        cells = cells_by_method(methods.volume, ask_images(reader, view, task, index), view.maps, parts)
        volumes = cells_to_attributions(cells, view, task=task.name, target=result.prediction, method=methods.volume)
        explained = replace(explained, volumes=volumes)
    if task.source == "location":
        return _Explained(_with_location(explained, view, task, result), found)
    explained = _with_graph(explained, reader, view, task.classes[index].concept, parts)
    explained = _with_text(explained, reader, view, traced, parts, methods)
    return _Explained(_with_shares(explained, reader, view, traced, task), found)


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


def _with_text(
    explained: TaskExplanation,
    reader: CaseReader,
    view: CaseView,
    traced: Traced,
    parts: Contributions,
    methods: ExplanationMethods,
) -> TaskExplanation:
    encoded, report, pieces = view.encoded, view.case.report, parts.pieces
    if pieces is None or encoded is None or report is None:
        return explained
    title = "gradient x input"
    if methods.text == "integrated_gradients":
        task = reader.model.labels.task(explained.task)
        pieces = integrated_pieces(reader, traced.inputs, encoded, task, task.index(explained.target))
        title = "integrated gradients"
    return replace(
        explained,
        words=pieces_to_words(pieces, encoded, report),
        sentences=pieces_to_sentences(pieces, encoded, report),
        text_method=title,
    )


def _with_shares(
    explained: TaskExplanation, reader: CaseReader, view: CaseView, traced: Traced, task: TaskSpec
) -> TaskExplanation:
    index, record = task.index(explained.target), view.case.record
    shares, baseline = modality_shares(reader, traced.inputs, task, index)
    fields = field_attributions(reader, traced.inputs, record, task, index) if record is not None else ()
    return replace(explained, fields=fields, modalities=shares, baseline_probability=baseline)
