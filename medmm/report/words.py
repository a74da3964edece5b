"""The draft findings and impression: fixed templates over the document's values, each sentence with its sources.

Sources are JSON pointers (RFC 6901) into the same document, so that every statement can be traced to a value.
"""

from collections.abc import Iterator
from typing import Literal

from medmm.report.document import (
    CaseDocument,
    CounterfactualPart,
    DraftPart,
    EstimatePart,
    RegionPart,
    StatementPart,
    TaskPart,
)
from medmm.report.texts import Texts
from medmm.results import MAX_LISTED, TaskKind

Certainty = Literal["very_likely", "likely", "leaning", "uncertain", "abstained"]
# Probability from which a word applies; the legend in the texts repeats these numbers.
_CERTAINTY_FROM: tuple[tuple[float, Certainty], ...] = ((0.95, "very_likely"), (0.80, "likely"), (0.60, "leaning"))
CLOSE_CALL = 0.10
_NAMES_SHOWN = 12
_FINDINGS = ("disease", "finding", "phenotype")  # kinds of which a report says that they are there or not; no anatomy


def certainty(task: TaskPart) -> Certainty:
    """The word for how sure an answer is."""
    if task.abstained:
        return "abstained"
    return next((word for limit, word in _CERTAINTY_FROM if task.confidence >= limit), "uncertain")


def answer_names(task: TaskPart) -> tuple[str, ...]:
    """The predicted class; where several can be true, every class that reaches its threshold, perhaps none.

    Which ones do is the model's to say (`prediction_set`): each finding has a threshold of its own.
    """
    return task.prediction_set if task.kind == "multilabel" else (task.prediction,)


def answer_titles(task: TaskPart, texts: Texts) -> str:
    """The answer for people: a number with its interval where the task asks for one, else the classes."""
    if task.estimate is not None:
        return _estimate(task.kind, task.estimate, texts)
    return texts("draft.or").join(title_of(task, name) for name in answer_names(task)) or texts("summary.none_above")


def _estimate(kind: TaskKind, estimate: EstimatePart, texts: Texts) -> str:
    def number(value: float | None) -> str:
        return texts("estimate.beyond", limit=f"{estimate.limit:g}") if value is None else f"{value:.3g}"

    key = "estimate.time" if kind == "survival" else "estimate.value"
    parts = {"value": number(estimate.value), "low": number(estimate.low), "high": number(estimate.high)}
    return texts(key, unit=estimate.unit, coverage=percent(estimate.coverage), **parts).replace("  ", " ")


def covers(task: TaskPart) -> bool:
    """Whether the prediction set is one that holds the truth at a stated coverage; findings and curves have none."""
    return task.kind in ("exclusive", "ordinal", "ranking")


def title_of(task: TaskPart, name: str) -> str:
    """A class's title, or the name itself where the class is not of this task (a target such as `late death`)."""
    return next((label.title for label in task.classes if label.name == name), name)


def runner_up(task: TaskPart) -> tuple[str, float] | None:
    """Title and probability of the second class where it is close to the first, for exclusive answers."""
    if task.kind not in ("exclusive", "ordinal", "ranking") or len(task.classes) < 2:
        return None
    first, second = sorted(task.classes, key=lambda label: -label.probability)[:2]
    return (second.title, second.probability) if first.probability - second.probability < CLOSE_CALL else None


def says_set(task: TaskPart) -> bool:
    """Whether the reason for abstaining names every class of the prediction set already, or counts a long one."""
    titles = [title_of(task, label) for label in task.prediction_set]
    is_named = len(titles) > MAX_LISTED or all(title in task.abstain_reason for title in titles)
    return task.abstained and len(titles) > 1 and is_named


def region_key(region: RegionPart) -> str:
    """Which text speaks of a region."""
    return "region_found" if region.first_slice is not None else "region_missing"


def region_values(region: RegionPart, texts: Texts) -> dict[str, object]:
    """What the texts on a region state; slices are counted from 1, as people do."""
    size = ("voxels", region.voxel_count) if region.volume_ml is None else ("ml", f"{region.volume_ml:.3g}")
    return {
        "title": region.title,
        "size": texts(f"size.{size[0]}", value=size[1]),
        "role": texts.known("role", region.role),
        "first": (region.first_slice or 0) + 1,
        "last": (region.last_slice or 0) + 1,
        "largest": (region.largest_slice or 0) + 1,
        "count": region.slice_count,
        "counted": texts(f"counted.{region.plane}"),
        "peak": f"{region.peak_probability:.2f}",
    }


def percent(fraction: float) -> str:
    """A coverage as people say it: 0.9 is 90%."""
    return f"{fraction * 100:.4g}%"


def pointer(*keys: str | int) -> str:
    """A JSON pointer; `~` and `/` in keys are escaped as the RFC says."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def write_draft(document: CaseDocument, texts: Texts) -> DraftPart:
    """The draft in the language of `texts`; the document's own draft is not read."""
    return DraftPart(
        language=texts.language,
        findings=tuple(_findings(document, texts)),
        impression=tuple(_impression(document, texts)),
        basis=tuple(_basis(document, texts)),
    )


def render_draft(document: CaseDocument, texts: Texts) -> str:
    """The document's draft as plain text with a heading for each part."""
    draft = document.draft
    lines = [texts("page.case", case=document.case_id), texts("banner.disclaimer")]
    for name, statements in (
        ("findings", draft.findings),
        ("impression", draft.impression),
        ("basis", draft.basis),
    ):
        if statements:
            lines += ["", texts(f"section.{name}").upper(), *(f"- {_one_line(part.text)}" for part in statements)]
    lines += ["", texts("draft.text_note", model=_one_line(document.provenance.model_name))]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _findings(document: CaseDocument, texts: Texts) -> Iterator[StatementPart]:
    yield _series(document, texts)
    for name, region in document.regions.items():
        text = texts(f"draft.{region_key(region)}", **region_values(region, texts))
        yield StatementPart(text=text, sources=(pointer("regions", name),))
    yield from _heatmaps(document, texts)
    yield from _mentions(document, texts)
    fields = {part.name: part.value for task in document.tasks.values() if task.why for part in task.why.fields}
    if fields:
        first = next(name for name, task in document.tasks.items() if task.why and task.why.fields)
        text = texts(
            "draft.record", fields="; ".join(f"{texts.known('field', name)} {value}" for name, value in fields.items())
        )
        yield StatementPart(text=text, sources=(pointer("tasks", first, "why", "fields"),))


def _series(document: CaseDocument, texts: Texts) -> StatementPart:
    items = []
    for part in document.series:
        (i, j, k), (x, y, z) = part.shape_voxels, (f"{edge:.2g}" for edge in part.spacing_mm)
        key = "series_item" if part.is_placed else "series_item_unplaced"  # a size that nobody stated is not claimed
        items.append(texts(f"draft.{key}", role=texts.known("role", part.role), i=i, j=j, k=k, x=x, y=y, z=z))
    text = texts("draft.series", series="; ".join(items)) if items else texts("draft.no_series")
    return StatementPart(text=text, sources=("/series",))


def _heatmaps(document: CaseDocument, texts: Texts) -> Iterator[StatementPart]:
    """Where each task's highest peak lies; tasks whose peaks share a slice are named together."""
    is_marked = any(part.is_found for part in document.regions.values())
    places: dict[tuple[str, int, str | None], list[str]] = {}
    for name, task in document.tasks.items():
        if task.why and task.why.heatmaps:
            heatmap = task.why.heatmaps[0]
            places.setdefault((heatmap.role, heatmap.peak_slice, heatmap.peak_region), []).append(name)
    for (role, slice_index, region), names in places.items():
        key = "inside" if region else "outside" if is_marked else "alone"
        tasks = texts("draft.or").join(f"“{document.tasks[name].title}”" for name in names)
        title = document.regions[region].title if region else ""
        values = {"tasks": tasks, "slice": slice_index + 1, "role": texts.known("role", role), "region": title}
        sources = tuple(pointer("tasks", name, "why", "heatmaps", 0, "peak_index") for name in names)
        yield StatementPart(text=texts(f"draft.heatmap_{key}", **values), sources=sources)


def _mentions(document: CaseDocument, texts: Texts) -> Iterator[StatementPart]:
    found: dict[str, dict[str, int]] = {said: {} for said in ("present", "uncertain", "historical", "absent")}
    for number, mention in enumerate(document.mentions):
        is_past = mention.temporality == "historical" and mention.status != "absent"
        said = "historical" if is_past else mention.status
        is_supposed = mention.temporality == "hypothetical"
        if mention.kind in _FINDINGS and mention.experiencer in ("patient", "") and not is_supposed and said in found:
            found[said].setdefault(mention.name, number)
    for said, number_of in found.items():
        names = list(number_of)[:_NAMES_SHOWN]
        if names:
            rest = len(number_of) - len(names)
            listed = ", ".join(names) + (texts("draft.mentions_more", count=rest) if rest else "")
            sources = tuple(pointer("mentions", number_of[name]) for name in names)
            yield StatementPart(text=texts(f"draft.mentions_{said}", names=listed), sources=sources)
    if not document.present.get("text", document.report_text is not None):
        yield StatementPart(text=texts("draft.no_report"), sources=("/present",))


def _impression(document: CaseDocument, texts: Texts) -> Iterator[StatementPart]:
    outside = document.out_of_distribution
    if outside is not None and outside.is_flagged:
        text = texts("draft.ood", score=f"{outside.score:.3g}", threshold=f"{outside.threshold:.3g}")
        yield StatementPart(text=text, sources=("/out_of_distribution",))
    for name, task in document.tasks.items():
        yield _answer(name, task, texts)
    yield StatementPart(text=texts("draft.research"), sources=("/disclaimer",))


def _answer(name: str, task: TaskPart, texts: Texts) -> StatementPart:
    """The answer, or that there is none; what else remains possible; and whether the call was close."""
    answer, value = answer_titles(task, texts), f"{task.confidence:.2f}"
    sentences, keys = [], ["prediction", "confidence"]
    if task.abstained:
        reason = texts.told(task.abstain_reason)
        sentences.append(texts("draft.abstained", title=task.title, reason=reason).strip())
        sentences.append(texts("draft.abstained_leading", answer=answer, value=value))
        keys += ["abstained", "abstain_reason"]
    elif task.estimate is not None:
        sentences.append(texts("draft.estimate", title=task.title, answer=answer))
        keys = ["estimate"]
    else:
        word = texts(f"certainty.{certainty(task)}")
        sentences.append(texts("draft.answer", title=task.title, answer=answer, certainty=word, value=value))
    titles = [title_of(task, label) for label in task.prediction_set]
    if len(titles) > 1 and covers(task) and not says_set(task):
        answers = texts("draft.or").join(titles)
        sentences.append(texts("draft.set", coverage=percent(task.coverage), answers=answers))
        keys += ["prediction_set", "coverage"]
    if not task.abstained and (close := runner_up(task)):
        sentences.append(texts("draft.close", second=close[0], value=f"{close[1]:.2f}"))
        keys.append("classes")
    sources = tuple(pointer("tasks", name, key) for key in keys)
    return StatementPart(text=texts("draft.between").join(sentences), sources=sources)


def _basis(document: CaseDocument, texts: Texts) -> Iterator[StatementPart]:
    explained = {name: task for name, task in document.tasks.items() if task.why}
    for name, task in explained.items():
        yield from _share(name, task, texts)
        yield from _sentence(name, task, texts)
        yield from _counterfactuals(name, task, texts)
    if explained and not any(task.why.paths for task in explained.values() if task.why):
        sources = tuple(pointer("tasks", name, "why", "paths") for name in explained)
        yield StatementPart(text=texts("draft.no_paths"), sources=sources)
    else:
        for name, task in explained.items():
            yield from _path(name, task, texts)
    for name, task in explained.items():
        yield from _failed_checks(name, task, texts)


def _failed_checks(name: str, task: TaskPart, texts: Texts) -> Iterator[StatementPart]:
    """Which tests an explanation did not pass; what each says stands beside the explanation."""
    checks = task.why.checks if task.why else ()
    failed = [number for number, check in enumerate(checks) if not check.is_passed]
    if failed:
        names = texts("draft.or").join(texts.known("check", checks[number].name) for number in failed)
        text = texts("draft.check_failed", title=task.title, failed=len(failed), count=len(checks), names=names)
        yield StatementPart(text=text, sources=tuple(pointer("tasks", name, "why", "checks", row) for row in failed))


def _share(name: str, task: TaskPart, texts: Texts) -> Iterator[StatementPart]:
    why = task.why
    strongest = max(why.modalities, key=lambda part: part.share, default=None) if why else None
    if why is None or strongest is None:
        return
    change = {"baseline": f"{why.baseline_probability:.2f}", "confidence": f"{task.confidence:.2f}"}
    if task.confidence < why.baseline_probability:  # it would be odd to say what an answer rests on that lost by it
        text = texts("draft.share_falls", title=task.title, answer=title_of(task, why.target), **change)
    elif strongest.share > 0:
        modality = texts.known("modality", strongest.modality)
        text = texts("draft.share", title=task.title, modality=modality, share=f"{strongest.share:+.2f}", **change)
    else:
        return
    at = pointer("tasks", name, "why")
    yield StatementPart(text=text, sources=(f"{at}/modalities", f"{at}/baseline_probability"))


def _sentence(name: str, task: TaskPart, texts: Texts) -> Iterator[StatementPart]:
    """Which sentence of the report speaks most for the answer, by its number: the draft quotes no report."""
    sentences = task.why.sentences if task.why else ()
    number = max(range(len(sentences)), key=lambda row: sentences[row].value, default=None)
    if task.why is None or number is None or sentences[number].value <= 0:
        return
    text = texts(
        "draft.sentence",
        title=task.title, number=number + 1, count=len(sentences), answer=title_of(task, task.why.target),
    )  # fmt: skip
    yield StatementPart(text=text, sources=(pointer("tasks", name, "why", "sentences", number),))


def _counterfactuals(name: str, task: TaskPart, texts: Texts) -> Iterator[StatementPart]:
    for number, found in enumerate(task.why.counterfactuals if task.why else ()):
        if found.removed:
            text = texts("draft.counterfactual", title=task.title, sentence=counterfactual_sentence(task, found, texts))
            yield StatementPart(text=text, sources=(pointer("tasks", name, "why", "counterfactuals", number),))


def counterfactual_sentence(task: TaskPart, found: CounterfactualPart, texts: Texts) -> str:
    """What the answer would be without the smallest set found, or that none was; sentences by number, in that order."""
    if not found.removed:
        return texts(f"why.no_counterfactual_{found.kind}", asked=found.n_asked, candidates=found.n_candidates)
    numbers = {part.start: number + 1 for number, part in enumerate(task.why.sentences if task.why else ())}
    names = [
        part.text or part.concept
        if found.kind == "concepts"
        else texts("why.sentence_number", number=numbers[part.start])
        if part.start in numbers
        else texts("why.characters", start=part.start, end=part.end)
        for part in found.removed
    ]
    text = texts(
        f"why.counterfactual_{found.kind}",
        names=texts("draft.or").join(names), candidates=found.n_candidates,
        answer=title_of(task, found.answer), value=f"{found.probability:.2f}",
    )  # fmt: skip
    smallest = texts("why.is_smallest" if found.is_smallest else "why.may_be_smaller")
    return f"{text}{texts('draft.between')}{smallest}"


def _path(name: str, task: TaskPart, texts: Texts) -> Iterator[StatementPart]:
    why, at = task.why, pointer("tasks", name, "why", "paths")
    hops = why.paths[0].hops if why and why.paths else ()
    if hops:
        first, last = hops[0], hops[-1]
        text = texts(
            "draft.path",
            title=task.title,
            start=first.subject_name if first.is_forward else first.object_name,
            end=last.object_name if last.is_forward else last.subject_name,
            count=len(hops),
            sources=", ".join(dict.fromkeys(hop.source for hop in hops)),
        )
        yield StatementPart(text=text, sources=(f"{at}/0",))
    elif why and any(label.concept for label in task.classes):
        text = texts("draft.no_path", answer=title_of(task, why.target), title=task.title)
        yield StatementPart(text=text, sources=(at,))
