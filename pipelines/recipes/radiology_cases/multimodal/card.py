"""The model card, filled from what was measured."""

from collections.abc import Mapping, Sequence

from medmm.config import Labels
from pipelines.recipes.radiology_cases.multimodal.spec import VERSION
from pipelines.statistics import Estimate

_CARD = """# radiology-cases {version}

Says where the disease of a case lies (5 organ systems), of what kind it is (10 super-classes) and which of 523
diagnoses fits best, from the case's pictures, text, age and sex. **Research software, not a medical device.**

## Use
Teaching cases with CT or MR pictures and a written history, exam and findings, any of them missing. It answers as if
the case were one out of such a collection, and knows no normal case.

## Data
{count} cases of the splits {splits} of MedPix 2.0 (Siragusa et al., Data Science and Engineering 2025, doi
10.1007/s41019-025-00297-8). The collection states no licence: neither data nor weights come with medmm.

## Method
Frozen: EfficientNet-Lite0 with ImageNet weights, a vector a picture; MiniLM, a vector a sentence; walks over the
knowledge graph from the concepts that the text affirms. Learned: tokens, hybrid fusion, heads. Diagnoses are ranked by
their names, their concepts, and what the graph's sources say of them, so one without a training case can come first.
Place and kind also follow from that ranking, by what is known of each diagnosis from training cases, names and sources.
Calibration: temperature and conformal sets from out-of-fold answers.

## Results
Five folds of these cases; every figure is from models that did not see the case. 95% bootstrap intervals over cases.
Temperature was fitted on the same out-of-fold answers, so the calibration error (ece) is somewhat flattering.

{results}

## Limits
- One collection of unusual cases; no other hospital, no normal case, no consecutive series was tested.
- Findings are the radiologist's own words, and name the diagnosis in about 14% of the cases.
- Pictures are screen captures without scale, some with arrows; the picture network was not trained on radiology.
- {rare}
- The candidates come from the same collection.

## Provenance
Knowledge graph {graph_hash}. Recipe: `python -m pipelines.recipes.radiology_cases model`.
"""


def write_card(
    figures: Mapping[str, Mapping[str, Estimate]], labels: Labels, splits: Sequence[str], count: int, graph_hash: str
) -> str:
    """Return the card as Markdown."""
    lines = ["| question | metric | value | 95% interval | cases |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {labels.task(task).title} | {name.replace('_', ' ')} | {one.value:.3f} | {one.low:.3f} to {one.high:.3f} "
        f"| {one.n} |"
        for task, table in figures.items()
        for name, one in table.items()
    ]
    silent = [task.title.lower() for task in labels.tasks if task.calibration.max_set_size > 1]
    return _CARD.format(
        version=VERSION,
        count=count,
        splits=", ".join(splits),
        results="\n".join(lines),
        rare=f"Questions of {' and '.join(silent)} are often answered by a set of several answers, or not at all.",
        graph_hash=graph_hash,
    )
