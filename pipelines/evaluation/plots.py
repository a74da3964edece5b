"""Geometry of the report's plots; the template writes the marks. Lines differ by dash as well as by label."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.evaluation.answers import RegionScore, TaskAnswers
from pipelines.statistics import (
    Curve,
    bland_altman,
    confusion_table,
    net_benefit,
    precision_recall_curve,
    reliability,
    roc_curve,
)

SIZE_PX, MARGIN_PX = 260, 46
MAX_LINES, MAX_POINTS = 6, 300
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "1 4")
THRESHOLDS = np.arange(0.01, 1.0, 0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A polyline: `points` as SVG text, `dash` its pattern, `label` for the legend."""

    points: str
    dash: str
    label: str
    is_reference: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A square plot: axis titles, tick marks as (pixel, label), lines, dots as (x, y) pixels."""

    title: str
    x_title: str
    y_title: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...] = ()
    dots: tuple[tuple[float, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts (L, L) with row sums; rows the truth."""

    classes: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """From values to pixels on both axes."""

    x: tuple[float, float]
    y: tuple[float, float] = field(default=(0.0, 1.0))

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        span_x, span_y = self.x[1] - self.x[0] or 1.0, self.y[1] - self.y[0] or 1.0
        px = MARGIN_PX + SIZE_PX * (min(max(x, self.x[0]), self.x[1]) - self.x[0]) / span_x
        py = SIZE_PX - SIZE_PX * (min(max(y, self.y[0]), self.y[1]) - self.y[0]) / span_y
        return round(px, 1), round(py + 8, 1)

    def line(self, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> str:
        kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).astype(int))
        return " ".join(f"{px},{py}" for px, py in (self.pixel(float(x[k]), float(y[k])) for k in kept))

    def ticks(self) -> tuple[tuple[tuple[float, str], ...], tuple[tuple[float, str], ...]]:
        places = np.linspace(0, 1, 5)
        xs = [self.x[0] + p * (self.x[1] - self.x[0]) for p in places]
        ys = [self.y[0] + p * (self.y[1] - self.y[0]) for p in places]
        return (
            tuple((self.pixel(value, self.y[0])[0], f"{value:.3g}") for value in xs),
            tuple((self.pixel(self.x[0], value)[1], f"{value:.3g}") for value in ys),
        )


def task_plots(answers: TaskAnswers) -> list[Plot]:
    """Return ROC, precision-recall, reliability and decision curve; a line per class, one only where there are two."""
    shown = _classes_shown(answers)
    if not shown:
        return []
    curves = {label: (answers.truth == label, answers.probabilities[:, label]) for label in shown}
    names = {label: answers.classes[label] for label in shown}
    roc = {names[label]: roc_curve(*pair) for label, pair in curves.items()}
    pr = {names[label]: precision_recall_curve(*pair) for label, pair in curves.items()}
    bins = {}
    for label, pair in curves.items():
        found = reliability(*pair)
        bins[names[label]] = Curve(x=found.stated, y=found.observed)
    return [
        _plot("ROC", "1 - specificity", "sensitivity", roc, diagonal="chance"),
        _plot("Precision and recall", "recall", "precision", pr),
        _plot("Reliability", "stated probability", "observed share", bins, diagonal="calibrated", has_dots=True),
        _decision(curves, names),
    ]


def confusion_of(answers: TaskAnswers) -> Confusion:
    """Return the confusion table of the most probable class."""
    table = confusion_table(answers.truth, answers.probabilities.argmax(axis=1), len(answers.classes))
    return Confusion(classes=answers.classes, rows=tuple(tuple(int(count) for count in row) for row in table))


def agreement_plot(scores: Sequence[RegionScore]) -> Plot | None:
    """Return the Bland-Altman plot of marked against reference volume in ml; None below three cases."""
    if len(scores) < 3:
        return None
    agreement = bland_altman(
        np.array([score.volume_ml for score in scores]), np.array([score.reference_ml for score in scores])
    )
    reach = float(np.abs([*agreement.difference, agreement.low, agreement.high]).max()) or 1.0
    scale = _Scale(x=(0.0, float(agreement.mean.max()) or 1.0), y=(-reach, reach))
    levels = {"mean difference": agreement.bias, "95% limits": agreement.low, "": agreement.high}
    lines = tuple(
        Line(points=scale.line(scale.x, (level, level)), dash=DASHES[0 if number == 0 else 1], label=label)
        for number, (label, level) in enumerate(levels.items())
    )
    x_ticks, y_ticks = scale.ticks()
    return Plot(
        title="Volume: model against reference (Bland-Altman)",
        x_title="mean of both, ml",
        y_title="model - reference, ml",
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        lines=lines,
        dots=tuple(scale.pixel(float(x), float(y)) for x, y in zip(agreement.mean, agreement.difference, strict=True)),
        note=f"Mean difference {agreement.bias:.2f} ml, limits {agreement.low:.2f} to {agreement.high:.2f} ml.",
    )


def _classes_shown(answers: TaskAnswers) -> list[int]:
    """Classes that occur and are not the only one; the commonest where there are many."""
    if not answers.has_one_class:
        return []
    counts = np.bincount(answers.truth, minlength=len(answers.classes))
    if (counts > 0).sum() < 2:
        return []
    if len(answers.classes) == 2:
        return [1]
    ranked = sorted(np.flatnonzero(counts).tolist(), key=lambda label: -int(counts[label]))
    return sorted(ranked[:MAX_LINES])


def _plot(
    title: str, x_title: str, y_title: str, curves: dict[str, Curve], *, diagonal: str = "", has_dots: bool = False
) -> Plot:
    scale = _Scale(x=(0.0, 1.0))
    lines = [
        Line(points=scale.line(curve.x, curve.y), dash=DASHES[number], label=name)
        for number, (name, curve) in enumerate(curves.items())
    ]
    if diagonal:
        lines.append(Line(points=scale.line((0, 1), (0, 1)), dash="", label=diagonal, is_reference=True))
    dots = [scale.pixel(float(x), float(y)) for curve in curves.values() for x, y in zip(curve.x, curve.y, strict=True)]
    x_ticks, y_ticks = scale.ticks()
    return Plot(
        title=title, x_title=x_title, y_title=y_title, x_ticks=x_ticks, y_ticks=y_ticks, lines=tuple(lines),
        dots=tuple(dots) if has_dots else (),
    )  # fmt: skip


def _decision(curves: dict[int, tuple[np.ndarray, np.ndarray]], names: dict[int, str]) -> Plot:
    """Net benefit of acting on the model, against acting on everyone and on nobody."""
    found = {names[label]: net_benefit(positive, chance, THRESHOLDS) for label, (positive, chance) in curves.items()}
    top = max(0.05, *(float(benefit.max()) for benefit in found.values()))
    scale = _Scale(x=(0.0, 1.0), y=(-top / 3, top))
    lines = [
        Line(points=scale.line(THRESHOLDS, benefit), dash=DASHES[number], label=name)
        for number, (name, benefit) in enumerate(found.items())
    ]
    lines.append(Line(points=scale.line((0, 1), (0, 0)), dash="", label="nobody", is_reference=True))
    if len(curves) == 1:
        positive, chance = next(iter(curves.values()))
        everyone = net_benefit(positive, np.ones_like(chance), THRESHOLDS)
        lines.append(Line(points=scale.line(THRESHOLDS, everyone), dash="3 3", label="everyone", is_reference=True))
    x_ticks, y_ticks = scale.ticks()
    return Plot(
        title="Decision curve", x_title="threshold probability", y_title="net benefit", x_ticks=x_ticks,
        y_ticks=y_ticks, lines=tuple(lines),
    )  # fmt: skip
