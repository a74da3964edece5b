"""Figures of an explanation for papers and notebooks, drawn by matplotlib (extra `plot`)."""

from typing import TYPE_CHECKING

import numpy as np

from medmm.report.pictures import key_slices
from medmm.report.texts import load_texts
from medmm.report.words import title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from medmm.report.document import TaskPart
    from medmm.results import Explanation

_FOR, _AGAINST = "#0b5cad", "#9a3d00"


def plot_explanation(explanation: "Explanation", task: str) -> "Figure":
    """One task's answer in three panels: the key slice at the heatmap's peak, all classes, and modality shares.

    Args:
        explanation: Of a case; without a heatmap for the task the first panel says so.
        task: Name of the task.
    Raises:
        KeyError: If there is no such task.
    """
    from matplotlib.figure import Figure

    report, texts = explanation.report(), load_texts("en")
    part = report.content.tasks[task]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    picture, classes, shares = figure.subplots(1, 3)
    _show_picture(picture, explanation, task)
    ranked = sorted(part.classes, key=lambda label: label.probability)[-8:]
    classes.barh([label.title for label in ranked], [label.probability for label in ranked], color=_FOR)
    classes.set(xlim=(0, 1), title=part.title, xlabel="probability")
    modalities = part.why.modalities if part.why else ()
    values = np.array([share.share for share in modalities])
    bars = shares.barh(
        [texts.known("modality", share.modality) for share in modalities],
        values,
        color=np.where(values >= 0, _FOR, "none"),
        edgecolor=np.where(values >= 0, _FOR, _AGAINST),
    )
    for bar, value in zip(bars, values, strict=True):
        bar.set_hatch("" if value >= 0 else "///")
    shares.axvline(0, color="black", linewidth=0.8)
    shares.set(title="Exact Shapley shares", xlabel=f"for “{_target(part)}”")
    figure.supxlabel(texts("banner.disclaimer"), fontsize=8)
    return figure


def _target(part: "TaskPart") -> str:
    return title_of(part, part.why.target if part.why else part.prediction)


def _show_picture(axes: "Axes", explanation: "Explanation", task: str) -> None:
    report = explanation.report()
    only = {name: part for name, part in report.content.tasks.items() if name == task}
    alone = report.with_content(report.content.model_copy(update={"tasks": only}))
    pictures = [part for part in key_slices(alone, load_texts("en")) if part.kind == "heat"]
    axes.set_axis_off()
    if pictures:
        axes.imshow(np.asarray(pictures[0].overlay))
        axes.set_title(f"{pictures[0].role}, {pictures[0].plane} slice {pictures[0].index + 1}")
    else:
        axes.text(0.5, 0.5, "no heatmap", ha="center")
