"""`report.html`: one self-contained page for people. Values come from the document, the layout from the template."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from medmm.report.card import excerpts
from medmm.report.colours import OUTLINES, colour_table
from medmm.report.content import CaseReport
from medmm.report.document import CaseDocument, CheckPart, SimilarPart, StatementPart, TaskPart, WhyPart, WordPart
from medmm.report.embed import MAX_PLANE_RATIO, viewer_data
from medmm.report.figures import HEATMAP_FLOOR, jpeg_bytes
from medmm.report.pages import json_island, render_page
from medmm.report.pictures import KeySlice, key_slices
from medmm.report.svg import bar_width, draw_path, predicate_of, signed_bar
from medmm.report.texts import Said, Texts, load_texts
from medmm.report.words import (
    answer_titles,
    certainty,
    counterfactual_sentence,
    covers,
    percent,
    pointer,
    region_key,
    region_values,
    runner_up,
    says_set,
    title_of,
)

# Pictures and viewer together; the words around them take the rest of 5 MB.
PAGE_BUDGET_BYTES = 4_300_000
_ROWS_SHOWN = 12
_CONCEPTS_SHOWN = 8
_SENTENCES_SHOWN = 8
_WORDS_LOCATED = 5
_PATHS_SHOWN = 6
_REPORT_SHOWN = 30_000
_MENTIONS_SHOWN = 40


def render_case(
    report: CaseReport, *, lang: str = "en", include_report_text: bool = False, has_viewer: bool = True
) -> str:
    """The page of a case, at most 5 MB, no request to anywhere, readable without scripts; for paper without viewer."""
    texts = load_texts(lang)
    document = report.document(lang=lang, include_report_text=include_report_text)
    pictures = [_picture(part) for part in key_slices(report, texts)]
    room = PAGE_BUDGET_BYTES - sum(len(picture.plain) + len(picture.overlay) for picture in pictures)
    viewer = viewer_data(report, room) if report.volumes and has_viewer else {"series": []}
    return render_page(
        "report.html.j2",
        style="style.css",
        scripts=("viewer.js", "draft.js"),
        t=texts,
        d=document,
        draft=_draft(document, texts),
        pictures=pictures,
        tasks=[_task_view(number, name, task, texts) for number, (name, task) in enumerate(document.tasks.items())],
        regions=_region_sentences(document, texts),
        gradient=[f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colour_table()[::8].tolist()],
        outlines=OUTLINES,
        floor=HEATMAP_FLOOR,
        region_titles=[document.regions[name].title for name in report.masks],
        viewer=viewer,
        has_images=bool(report.volumes),
        island=json_island(_island(viewer, document, texts)),
        provenance=_provenance(document, texts),
        highlights=_highlights(document, texts) if include_report_text else [],
        mentions_shown=_MENTIONS_SHOWN,
        report_shown=_REPORT_SHOWN,
        card=list(excerpts(document.model_card).items()),
        percent=percent,
        title_of=title_of,
        labels_of=partial(_labels_of, document=document),
        predicate_of=partial(predicate_of, texts=texts),
        # A failed test is said in the summary and beside what it tests, where it is clear which answer is meant.
        notes=[(note, texts.said(note.message, note.code)) for note in document.notes if note.code != "explain.check"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PictureView:
    """A key slice as the template shows it: pictures are data URIs."""

    caption: str
    alt: str
    alt_plain: str
    plain: str
    overlay: str


def _picture(part: KeySlice) -> _PictureView:
    plain, overlay = (
        f"data:image/jpeg;base64,{base64.b64encode(jpeg_bytes(picture)).decode('ascii')}"
        for picture in (part.plain, part.overlay)
    )
    return _PictureView(caption=part.caption, alt=part.alt, alt_plain=part.alt_plain, plain=plain, overlay=overlay)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TaskView:
    """A task as the template shows it."""

    anchor: str
    name: str
    task: TaskPart
    answer: str
    certainty: str
    confidence_bar: float
    asks_graph: bool
    set_sentence: str
    close_sentence: str
    classes: list[dict[str, Any]]
    shares: list[dict[str, Any]]
    fields: list[dict[str, Any]]
    ranking: str
    concepts: list[dict[str, Any]]
    paths: list[dict[str, Any]]
    failed_checks: int
    words_sentence: str
    sentences: list[dict[str, Any]]
    counterfactuals: list[str]
    reason: Said
    checks: list[tuple[CheckPart, Said]]


def _task_view(number: int, name: str, task: TaskPart, texts: Texts) -> _TaskView:
    close, why = runner_up(task), task.why
    ranked = sorted(task.classes, key=lambda label: -label.probability)[:_ROWS_SHOWN]
    return _TaskView(
        anchor=f"why-{number + 1}",
        name=name,
        task=task,
        answer=answer_titles(task, texts),
        certainty=texts(f"certainty.{certainty(task)}"),
        confidence_bar=bar_width(task.confidence),
        asks_graph=any(label.concept for label in task.classes),
        set_sentence=_set_sentence(task, texts) if covers(task) and not says_set(task) else "",
        close_sentence=texts("summary.close", second=close[0], value=f"{close[1]:.2f}")
        if close and not task.abstained
        else "",
        classes=[
            {
                "title": label.title,
                "concept": label.concept,
                "value": label.probability,
                "bar": bar_width(label.probability),
            }
            for label in ranked
        ],
        shares=_bars([(texts.known("modality", part.modality), part.share, part) for part in why.modalities])
        if why
        else [],
        fields=_bars([(texts.known("field", part.name), part.attribution, part) for part in why.fields], _ROWS_SHOWN)
        if why
        else [],
        ranking=_ranking(task, texts),
        concepts=_bars([(part.name, part.value, part) for part in why.concepts], _CONCEPTS_SHOWN) if why else [],
        paths=[{"path": path, "drawing": draw_path(path, texts)} for path in why.paths[:_PATHS_SHOWN]] if why else [],
        failed_checks=sum(not check.is_passed for check in why.checks) if why else 0,
        words_sentence=_words_sentence(task, texts),
        sentences=_sentences(why, texts) if why else [],
        counterfactuals=[counterfactual_sentence(task, part, texts) for part in why.counterfactuals] if why else [],
        reason=texts.said(task.abstain_reason),
        checks=[(check, texts.said(check.sentence)) for check in why.checks] if why else [],
    )


def _ranking(task: TaskPart, texts: Texts) -> str:
    """What the ranking that the task follows did to its answer."""
    ranking = task.why.ranking if task.why else None
    if task.why is None or ranking is None:
        return ""
    names = ", ".join(f"{part.title} ({part.share:.2f})" for part in ranking.candidates)
    target, effect = title_of(task, task.why.target), f"{ranking.attribution:+.3f}"
    return texts("why.ranking", ranking=ranking.title, target=target, effect=effect, names=names)


def _sentences(why: WhyPart, texts: Texts) -> list[dict[str, Any]]:
    """The report's sentences that count most, by number; their words only where the document has them."""
    numbered = [
        (texts("why.sentence_number", number=number + 1), part.value, part) for number, part in enumerate(why.sentences)
    ]
    return _bars(numbered, _SENTENCES_SHOWN)


def _bars(items: list[tuple[str, float, Any]], limit: int | None = None) -> list[dict[str, Any]]:
    if limit is not None:
        items = sorted(items, key=lambda item: -abs(item[1]))[:limit]
    largest = max((abs(value) for _, value, _ in items), default=0.0)
    return [
        {"name": name, "value": value, "part": part, "bar": signed_bar(value, largest)} for name, value, part in items
    ]


def _set_sentence(task: TaskPart, texts: Texts) -> str:
    answers = texts("draft.or").join(title_of(task, label) for label in task.prediction_set)
    kind = {0: "empty", 1: "one"}.get(len(task.prediction_set), "many")
    return texts(f"summary.set_{kind}", coverage=percent(task.coverage), answers=answers)


def _words_sentence(task: TaskPart, texts: Texts) -> str:
    if task.why is None or not task.why.words:
        return ""
    words = task.why.words
    strongest = sorted(words, key=lambda word: -abs(word.value))[:_WORDS_LOCATED]
    sections = dict.fromkeys(word.section for word in strongest if word.section)
    counts = {
        "toward": sum(word.value > 0 for word in words),
        "against": sum(word.value < 0 for word in words),
        "target": title_of(task, task.why.target),
    }
    if not sections:
        return texts("why.word_count_plain", **counts)
    return texts("why.word_count", **counts, sections=", ".join(sections))


@dataclass(frozen=True, slots=True, kw_only=True)
class _DraftLine:
    """A statement of the draft and the section of the page that shows its values."""

    text: str
    anchor: str
    place: str
    sources: str


def _draft(document: CaseDocument, texts: Texts) -> list[tuple[str, list[_DraftLine]]]:
    draft = document.draft
    parts = {"findings": draft.findings, "impression": draft.impression, "basis": draft.basis}
    return [
        (texts(f"section.{name}"), [_draft_line(statement, document, texts) for statement in statements])
        for name, statements in parts.items()
    ]


def _draft_line(statement: StatementPart, document: CaseDocument, texts: Texts) -> _DraftLine:
    anchor, place = "summary", texts("section.summary")
    first = statement.sources[0]
    for number, (name, task) in enumerate(document.tasks.items()):
        if f"{first}/".startswith(f"{pointer('tasks', name)}/"):
            anchor, place = f"why-{number + 1}", texts("section.why", task=task.title)
    for start, target, key in (("/series", "viewer-section", "viewer"), ("/mentions", "report", "report")):
        if first.startswith(start):
            anchor, place = target, texts(f"section.{key}")
    return _DraftLine(text=statement.text, anchor=anchor, place=place, sources=", ".join(statement.sources))


def _region_sentences(document: CaseDocument, texts: Texts) -> list[str]:
    regions = document.regions.values()
    return [texts(f"summary.{region_key(region)}", **region_values(region, texts)) for region in regions]


def _labels_of(near: SimilarPart, document: CaseDocument) -> list[tuple[str, str]]:
    """What is known of a similar case, in the order of this case's answers."""
    order = list(document.tasks)
    return sorted(near.labels.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _island(viewer: Mapping[str, Any], document: CaseDocument, texts: Texts) -> dict[str, Any]:
    titles = {
        name: f"{task.title}: {title_of(task, task.why.target)}" for name, task in document.tasks.items() if task.why
    }
    roles = [part["role"] for part in viewer["series"]]
    strongest = [task.why.heatmaps[0].role for task in document.tasks.values() if task.why and task.why.heatmaps]
    for part in viewer["series"]:
        for heat in part["heatmaps"]:
            heat["carried"] = texts.known("role", heat["carried"]) if heat["carried"] else ""
        part["label"] = " · ".join(filter(None, [texts.known("role", part["role"]), *part["label"]]))
    return {
        **viewer,
        "first": next((roles.index(role) for role in strongest if role in roles), 0),
        "tasks": titles,
        "colours": colour_table().reshape(-1).tolist(),
        "outlines": OUTLINES,
        "floor": HEATMAP_FLOOR,
        "maxRatio": MAX_PLANE_RATIO,
        "texts": texts.section("viewer"),
    }


def _provenance(document: CaseDocument, texts: Texts) -> list[tuple[str, str]]:
    origin = document.provenance
    rows = [
        (texts("provenance.software"), origin.medmm_version),
        (texts("provenance.model"), f"{origin.model_name} {origin.model_version}"),
        (texts("provenance.weights"), origin.weights_sha256),
        (texts("provenance.graph"), origin.graph_hash),
        (texts("provenance.device"), f"{origin.device}, {origin.precision}"),
        *(
            (texts("provenance.inputs", role=texts.known("role", role)), value)
            for role, value in origin.input_sha256.items()
        ),
        (texts("provenance.config"), origin.config_sha256),
        (texts("provenance.seed"), origin.seed),
        (texts("provenance.started"), origin.started_utc),
        (texts("provenance.finished"), origin.finished_utc),
        (texts("provenance.rounding"), texts.told(origin.rounding)),
        (texts("provenance.schema"), document.schema_version),
    ]
    files = [part.file for task in document.tasks.values() if task.why for part in task.why.heatmaps]
    files += [region.file for region in document.regions.values() if region.file]
    if files:
        rows.append((texts("provenance.files"), ", ".join(files)))
    return [(name, str(value)) for name, value in rows if value is not None]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the report: `tone` is plain, or for/against with a strength of 1 to 3."""

    text: str
    tone: Literal["", "for-1", "for-2", "for-3", "against-1", "against-2", "against-3"]


def _highlights(document: CaseDocument, texts: Texts) -> list[dict[str, Any]]:
    """The report once per task that weighed its words; once without marks where none did."""
    if document.report_text is None:
        return []
    report = document.report_text[:_REPORT_SHOWN]
    marked = [
        {"title": task.title, "target": title_of(task, task.why.target), "spans": mark_words(report, task.why.words)}
        for task in document.tasks.values()
        if task.why and task.why.words
    ]
    return marked or [{"title": texts("section.report"), "target": "", "spans": [Span(report, "")]}]


def mark_words(report: str, words: tuple[WordPart, ...]) -> list[Span]:
    """The report cut into plain and marked spans, which join to the report; of overlapping words the first counts."""
    largest = max((abs(word.value) for word in words), default=0.0)
    spans: list[Span] = []
    place = 0
    for word in sorted(words, key=lambda word: (word.start, word.end)):
        strength = round(3 * abs(word.value) / largest) if largest > 0 else 0
        if word.start < place or word.end > len(report) or word.start >= word.end or strength == 0:
            continue
        if word.start > place:
            spans.append(Span(report[place : word.start], ""))
        side = "for" if word.value > 0 else "against"
        spans.append(Span(report[word.start : word.end], f"{side}-{strength}"))  # type: ignore[arg-type]
        place = word.end
    if place < len(report):
        spans.append(Span(report[place:], ""))
    return spans
