"""The reporting checklist, filled from what the run and the model card know; everything else says "not reported"."""

import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import medmm
from medmm.diagnose import Diagnoser
from pipelines.evaluation.answers import Answers

NOT_REPORTED = "not reported"
_LIST = Path(__file__).with_name("checklist.toml")
_CARD_LIMIT = 900  # characters of a section of the card


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question of the checklist with its answer."""

    place: str
    asks: str
    answer: str

    @property
    def is_reported(self) -> bool:
        """Whether the run or the card knows the answer."""
        return self.answer != NOT_REPORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the checklist is filled from."""

    diagnoser: Diagnoser
    answers: Answers
    split: str
    n_resamples: int
    subgroup_columns: tuple[str, ...] = ()


def fill_checklist(context: Context) -> list[Item]:
    """Return every item in the guideline's order."""
    with _LIST.open("rb") as stream:
        items = tomllib.load(stream)["items"]
    facts = _facts(context)
    return [
        Item(place=item["item"], asks=item["asks"], answer=facts.get(item.get("fact", ""), "") or NOT_REPORTED)
        for item in items
    ]


def methods_paragraph(context: Context) -> str:
    """Return a paragraph for a paper's methods section; nothing in it that the run does not know."""
    spec, answers = context.diagnoser.spec, context.answers
    n_cases, n_patients = len(answers.cases), len({case.row.patient for case in answers.cases})
    tasks = ", ".join(f"{task.title} ({len(answers.of_task(task.name))} cases)" for task in answers.tasks)
    refused = len(answers.refused)
    return (
        f"The model {spec.name} {spec.version} (weights SHA-256 {spec.weights_sha256[:16]}) was applied with medmm "
        f"{medmm.__version__} to {n_cases} cases of {n_patients} patients"
        f"{f' ({context.split} split)' if context.split else ''}; {refused or 'no'} "
        f"{'case' if refused == 1 else 'cases'} could not be used. It read {', '.join(spec.modalities)} and answered "
        f"{tasks}. Metrics are given with 95% percentile intervals from {context.n_resamples} bootstrap resamples of "
        "patients. Differences between models and controls were tested on the same cases by a paired bootstrap of "
        "patients; for two classes and one case a patient also by DeLong's test, and accuracies by McNemar's exact "
        "test. P-values are not adjusted for the number of tests. Prediction sets are conformal at the model's own "
        "coverage; where a set does not hold exactly one class, the case is unlike the training cases, or nothing "
        "was found, the model abstains, and its probabilities still enter the metrics."
    )


def card_section(card: str, title: str) -> str:
    """Return a section of a Markdown card in one line, shortened; empty where there is none."""
    found = re.search(rf"^##\s+{re.escape(title)}\s*\n(.*?)(?=^##\s|\Z)", card, re.MULTILINE | re.DOTALL)
    text = " ".join(found.group(1).split()) if found else ""
    return text if len(text) <= _CARD_LIMIT else text[: _CARD_LIMIT - 1] + "…"


def _facts(context: Context) -> dict[str, str]:
    answers, spec, card = context.answers, context.diagnoser.spec, context.diagnoser.card
    config = context.diagnoser.model.config
    graph = f"knowledge graph {spec.graph_hash[:16]}" if spec.graph_hash else ""
    columns = ", ".join(context.subgroup_columns)
    return {
        "aim": "Evaluation of a finished model on labelled cases.",
        "intended_use": card_section(card, "Use"),
        "data": card_section(card, "Data"),
        "training": card_section(card, "Method"),
        "licence": card_section(card, "Licence"),
        "limits": card_section(card, "Limits"),
        "inclusion": f"All {len(answers.cases) + len(answers.refused)} rows of the manifest"
        + (f" with split {context.split!r}" if context.split else "")
        + f"; {len(answers.refused)} could not be used (failures.csv says why).",
        "preparation": "By the model's own preprocessing, as in config.json; the same for every case.",
        "outcome": "Labels as in the manifest: " + "; ".join(_class_counts(answers)) + ".",
        "predictors": f"{', '.join(spec.modalities)}; roles {', '.join(spec.roles) or 'none'}; record fields "
        f"{', '.join(spec.record_fields) or 'none'}.",
        "sample_size": f"{len(answers.cases)} cases of {_n_patients(answers)} patients; no sample size calculation.",
        "missing": _missing(answers),
        "split": f"Rows of split {context.split!r}; the manifest refuses a patient in two splits."
        if context.split
        else "No split in the manifest; cases that the model says it was trained on are refused by default.",
        "model": f"{spec.name} {spec.version}, {sum(p.numel() for p in context.diagnoser.model.parameters()):,} "
        f"parameters; width {config.width}; {graph or 'no knowledge graph'}.",
        "groups": f"Subgroup tables by {columns}." if columns else "",
        "measures": f"See the tables; 95% intervals by {context.n_resamples} bootstrap resamples of patients.",
        "updating": "The model was not changed.",
        "output": "Calibrated probabilities of each class, a prediction set at the stated coverage, and abstention.",
        "code": f"medmm {medmm.__version__}; weights SHA-256 {spec.weights_sha256}.",
        "flow": f"{len(answers.cases) + len(answers.refused)} cases, {len(answers.refused)} refused, "
        f"{len(answers.cases)} answered.",
        "patients": _patients(answers),
        "events": "; ".join(_class_counts(answers)) + ".",
        "use": "The model directory, and `medmm diagnose`.",
        "performance": "See the tables of each task.",
        "robustness": "See the tables by modality, graph and acquisition." if answers.variants else "",
        "failures": "See the failure gallery.",
        "explanations": "Heatmaps were tested; see each task." if any(case.maps for case in answers.cases) else "",
    }


def _class_counts(answers: Answers) -> list[str]:
    lines = []
    for task in answers.tasks:
        counts = Counter(case.row.labels.get(task.name) or "unknown" for case in answers.cases)
        lines.append(f"{task.name}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return lines


def _missing(answers: Answers) -> str:
    names = sorted({name for case in answers.cases for name in case.row.record})
    gaps = {name: sum(not case.row.record.get(name) for case in answers.cases) for name in names}
    without = [f"report {sum(not (case.row.report or case.row.report_text) for case in answers.cases)}"]
    without += [f"record field {name} {count}" for name, count in gaps.items() if count]
    return f"Cases without: {', '.join(without)}. What is missing is masked in the model, not imputed."


def _patients(answers: Answers) -> str:
    sexes = Counter(value for case in answers.cases if (value := case.row.record.get("sex")))
    ages = []
    for case in answers.cases:
        try:
            ages.append(float(case.row.record.get("age_years", "")))
        except ValueError:
            continue
    parts = []
    if ages:
        parts.append(
            f"age {min(ages):.0f} to {max(ages):.0f} years, mean {sum(ages) / len(ages):.0f} ({len(ages)} known)"
        )
    if sexes:
        parts.append("sex " + ", ".join(f"{name} {count}" for name, count in sorted(sexes.items())))
    return "; ".join(parts)


def _n_patients(answers: Answers) -> int:
    return len({case.row.patient for case in answers.cases})
