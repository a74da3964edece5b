"""The model card, from the run: data, splits, figures with intervals, limits, licence, cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import medmm
from medmm.config import Labels, ModelConfig
from pipelines.evaluation.measures import Table
from pipelines.evaluation.page import show_estimate
from pipelines.training.cohort import Cohort
from pipelines.training.effort import Effort
from pipelines.training.folds import Fold
from pipelines.training.leaks import Leak
from pipelines.training.recipe import Recipe

_UNSAID = "Not stated in the recipe."


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Everything that the card is filled from. `epochs` are those of the final fit, by step."""

    recipe: Recipe
    config: ModelConfig
    labels: Labels
    cohort: Cohort
    folds: Sequence[Fold]
    metrics: Mapping[str, Table]
    leaks: Sequence[Leak]
    effort: Effort
    epochs: Mapping[str, int] = field(default_factory=dict)


def write_card(facts: CardFacts) -> str:
    """Return the card as Markdown."""
    recipe, config = facts.recipe, facts.config
    parts = {
        "Use": recipe.card.use or _UNSAID,
        "Data": f"{recipe.card.data or _UNSAID}\n\n{_data(facts)}",
        "Method": _method(facts),
        "Results": _results(facts),
        "Limits": _limits(facts),
        "Licence": recipe.card.licence or f"{_UNSAID} Weights carry the terms of the data they were trained on.",
        "Cost": str(facts.effort),
        "Provenance": f"medmm {medmm.__version__}, seed {recipe.seed}"
        + (f", knowledge graph {config.graph.hash}" if config.graph is not None else "")
        + ". Made by `medmm train`.",
    }
    head = f"# {config.name} {config.version}\n\n**Research software, not a medical device.**\n"
    return head + "".join(f"\n## {title}\n{text.strip()}\n" for title, text in parts.items())


def _data(facts: CardFacts) -> str:
    cohort = facts.cohort
    lines = [f"{len(cohort)} cases of {len(set(cohort.patients))} patients; {len(cohort.refused)} could not be read."]
    for task in facts.labels.tasks:
        counts = Counter(row.labels.get(task.name) or "unknown" for row in cohort.rows)
        lines.append(f"- {task.title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    n_masks = sum(row.mask is not None for row in cohort.rows)
    if n_masks:
        lines.append(f"- Reference masks: {n_masks}")
    return "\n".join(lines)


def _method(facts: CardFacts) -> str:
    recipe, config = facts.recipe, facts.config
    reads = ", ".join(config.modalities)
    trunk = ""
    if config.volume is not None:
        volume = recipe.model.volume
        borrowed = volume.trunk_from if volume is not None else ""
        trunk = (
            f" A 2.5D U-Net marks {', '.join(region.title for region in config.volume.regions)}"
            + (f" (trained elsewhere: {borrowed})" if borrowed else "")
            + "; what it computes there describes the region."
        )
    return (
        f"Hybrid fusion of {reads}.{trunk} Calibration: temperature and conformal sets from out-of-fold answers. Final "
        f"fit on all cases: {', '.join(f'{count} epochs of step {step}' for step, count in facts.epochs.items())}."
    )


def _results(facts: CardFacts) -> str:
    spec = facts.recipe.validation
    scheme = {
        "k-fold": f"{spec.folds}-fold cross-validation by patient" + f", {spec.repeats} times" * (spec.repeats > 1),
        "by-group": f"one fold for each value of record.{spec.group} ({len(facts.folds)} of them)",
        "split": "the rows of split `validation`",
    }[spec.scheme]
    search = (
        f" Settings were searched in {facts.recipe.search.inner_folds} inner folds of each fold "
        f"({facts.recipe.search.trials} trials)." * bool(facts.recipe.search.trials)
    )
    lines = [
        f"Held out by {scheme}; every answer is from a model that did not see the patient, calibrated on the other "
        f"folds. 95% bootstrap intervals over patients.{search}",
        "",
        "| what | metric | value (95% interval) | patients |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {what} | {name.replace('_', ' ')} | {show_estimate(estimate)} | {estimate.n} |"
        for what, table in facts.metrics.items()
        for name, estimate in table.items()
    ]
    return "\n".join(lines)


def _limits(facts: CardFacts) -> str:
    lines = [f"- {facts.recipe.card.limits}"] if facts.recipe.card.limits else []
    has_trunk = facts.config.volume is not None
    if has_trunk and facts.recipe.validation.trunk == "shared":
        lines.append("- One trunk learned from the masks of all cases, test folds included: this flatters the figures.")
    if facts.recipe.model.volume is not None and facts.recipe.model.volume.trunk_from:
        lines.append("- The trunk was trained elsewhere; whether it saw these patients is not known.")
    for kind, count in Counter(leak.kind for leak in facts.leaks).items():
        lines.append(f"- {count} leaks of kind {kind} were allowed on purpose: the figures are flattered by them.")
    for task in facts.labels.tasks:
        counts = Counter(row.labels.get(task.name, "") for row in facts.cohort.rows)
        rare = [label.name for label in task.classes if counts[label.name] < 10]
        if rare:
            lines.append(f"- {task.title}: fewer than ten cases of {', '.join(rare)}.")
    lines.append("- Not tested at any hospital that is not among these cases.")
    return "\n".join(lines)
