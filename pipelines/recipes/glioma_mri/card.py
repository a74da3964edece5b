"""The model card of glioma-mri, filled from what was measured."""

from collections.abc import Iterable, Mapping

from kg import KnowledgeGraph
from pipelines.recipes.glioma_mri.baselines import BASELINES, READERS, TISSUE
from pipelines.recipes.glioma_mri.crossval import CrossValidation
from pipelines.recipes.glioma_mri.spec import COVERAGE, LABELS, VERSION

Table = Mapping[str, Mapping[str, Mapping[str, float | int]]]

_CARD = """# glioma-mri {version}

Delineates the FLAIR abnormality of lower-grade glioma on brain MR, says its side and lobe, and estimates WHO grade
(2 or 3), histology, and whether the tissue is of the TCGA's second cluster of clusters. **Research software, not a
medical device.**

## Use
Adults with a known or suspected diffuse glioma, preoperative MR: FLAIR, T1 before contrast, T1 after contrast, in any
combination; age and sex where known. It answers as if there were a lower-grade glioma: it is no detector of disease
and knows no glioblastoma, metastasis, abscess or demyelination.

## Data
TCGA-LGG via The Cancer Imaging Archive; masks and table by Buda, Saha and Mazurowski, "Association of genomic subtypes
of lower-grade gliomas with shape features automatically extracted by a deep learning algorithm", Computers in Biology
and Medicine 109, 2019. 78 patients of five US sites, examined 1983 to 2004; 256 x 256 slices at half resolution,
without voxel size. {n_without_t1} patients have no T1 before contrast, {n_without_t1ce} none after; they are part of
the training.

## Method
A 2.5D U-Net finds the tumour. Its encoder, EfficientNet-Lite0, began from ImageNet weights (Apache-2.0); its
probabilities are averaged with those of the mirrored image. Side and lobe follow from where the tumour lies in the
head. Grade, histology and tissue cluster come from hybrid fusion of the lesion's description, the record, and a graph
attention network over the part of the knowledge graph that the findings touch.
Calibration: temperature scaling and conformal sets ({coverage:.0%} coverage) on out-of-fold answers. A task abstains
when its prediction set does not hold exactly one answer, when no tumour is found, or when the case is unlike the
training cases.

## Results
Five-fold cross-validation by patient, stratified by grade and histology; every figure is from models that did not see
the patient. 95% bootstrap intervals over patients. AUROC of tasks with more than two classes: mean of one against the
rest over the classes with at least five patients. Temperature and prediction sets were fitted on these same
out-of-fold answers, so ECE, coverage and share answered are somewhat flattering. The settings of the second step were
chosen among about ten on these same folds for grade and histology, which flatters these a little more.

{results}

"Readers' masks": side and lobe from the masks that readers drew, by the same regression on the same folds: what
a perfect segmentation would give.

## Ablation
AUROC of the same patients; a gain whose interval holds 0 cannot be told from nothing.

{ablation}

## Against simple baselines
Logistic regressions on the same folds; position and intensity are of what the trunk of the fold marks. A gain whose
interval holds 0 is not distinguishable from nothing. The tissue clusters (six assays of the removed tumour) are no
rival, since nobody has them when the images are read; they show how much there is to know.

{baselines}

## Every site left out
Fusion, heads and location heads learned from the other sites. {site_trunks}
Sites with fewer than five patients in two classes have no line of their own.

{sites}

## Limits
- The tissue cluster (COC 2 of the TCGA LGG network 2015, probably the gliomas without IDH mutation) is defined by
  molecular assays of tissue. The answer is a research estimate from images and replaces no assay.
- Grade and histology are weakly visible on these images: read the intervals. Many answers abstain, and should.
- Histology is the label of before 2016 (oligoastrocytoma is no longer a diagnosis); IDH and 1p/19q are not predicted.
- The table has one occipital tumour and no cerebellar one: the lobe head has practically not seen the first and
  cannot answer the second.
- Scanners and sequences are those of the 1990s. No other hospital was tested.
- The mask marks the FLAIR abnormality, oedema included, not the enhancing tumour. Volumes in ml are right only where
  the DICOM spacing is.
- The model shipped was fitted on all 78 patients; the figures are of its five siblings, fitted on about 62 each.

## Licence
These weights: CC BY-NC-SA 4.0, as the data they were trained on (attribution, non-commercial, share alike). The code
around them is Apache-2.0.

## Provenance
Knowledge graph {graph_hash}. Recipe: `python -m pipelines.recipes.glioma_mri`.
"""
_FIGURES = {
    "tumour": ("dice_mean", "dice_median", "patients_at_dice_0", "patients_below_dice_0.5"),
    "side": ("accuracy", "auroc", f"auroc, {READERS}"),
    "lobe": ("accuracy", "auroc", f"auroc, {READERS}"),
    "grade": ("auroc", "accuracy", "ece", "set_coverage", "answered", "accuracy_where_answered"),
    "histology": ("auroc", "accuracy", "ece", "set_coverage", "answered", "accuracy_where_answered"),
    "coc2": ("auroc", "accuracy", "ece", "set_coverage", "answered", "accuracy_where_answered"),
}
_SITE_TRUNKS = {
    True: "So did the trunks.",
    False: "The trunks were those of the folds: they saw masks of other patients of the site, never the patient's.",
}
SITE = "site left out: "  # before the names of figures of models that learned from no patient of the site


def write_card(metrics: Table, graph: KnowledgeGraph, results: CrossValidation) -> str:
    """Return the card as Markdown."""
    patients = results.patients
    return _CARD.format(
        version=VERSION,
        coverage=COVERAGE,
        n_without_t1=sum(not patient.has["t1"] for patient in patients),
        n_without_t1ce=sum(not patient.has["t1ce"] for patient in patients),
        results=_results(metrics),
        ablation=_ablation(metrics),
        baselines=_baselines(metrics),
        sites=site_table(metrics),
        site_trunks=_SITE_TRUNKS[results.sites.dice is not None],
        graph_hash=graph.hash,
    )


def site_table(metrics: Table) -> str:
    """Return what was measured with every site left out, as Markdown."""
    return _table(
        (what, name.removeprefix(SITE), figure)
        for what, figures in metrics.items()
        for name, figure in figures.items()
        if name.startswith(SITE)
    )


def _results(metrics: Table) -> str:
    return _table((what, name, metrics[what][name]) for what, names in _FIGURES.items() for name in names)


def _table(rows: Iterable[tuple[str, str, Mapping[str, float | int]]]) -> str:
    lines = ["| what | metric | value | 95% interval | patients |", "| --- | --- | --- | --- | --- |"]
    for what, name, figure in rows:
        is_count = name.startswith("patients")
        value = f"{figure['value']:.0f}" if is_count else f"{figure['value']:.3f}"
        interval = "" if is_count else f"{figure['low']:.3f} to {figure['high']:.3f}"
        lines.append(f"| {what} | {name.replace('_', ' ')} | {value} | {interval} | {figure['n']} |")
    return "\n".join(lines)


def _ablation(metrics: Table) -> str:
    lines = ["| task | variant | AUROC | gain of the full model | 95% interval |", "| --- | --- | --- | --- | --- |"]
    for task in LABELS.fusion_tasks():
        table = metrics[task.name]
        lines.append(f"| {task.name} | full model | {table['auroc']['value']:.3f} | | |")
        lines += [_gain_line(task.name, table, name) for name in _variants(table) if not _is_baseline(name)]
    return "\n".join(lines)


def _baselines(metrics: Table) -> str:
    """The full model's gain over each baseline; the one with the highest AUROC is called the best."""
    lines = ["| task | baseline | AUROC | gain of the full model | 95% interval |", "| --- | --- | --- | --- | --- |"]
    verdicts = []
    for task in LABELS.fusion_tasks():
        table = metrics[task.name]
        lines += [_gain_line(task.name, table, name) for name in _variants(table) if _is_baseline(name)]
        best = max(BASELINES, key=lambda name: table[f"auroc, {name}"]["value"])
        gain = table[f"auroc gain over {best}"]
        verdict = "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "not distinguishable"
        verdicts.append(f"- {task.name}: the best baseline is {best}; the full model is {verdict}.")
    return "\n".join([*lines, "", *verdicts])


def _variants(table: Mapping[str, Mapping[str, float | int]]) -> list[str]:
    return [name.removeprefix("auroc, ") for name in table if name.startswith("auroc, ")]


def _is_baseline(name: str) -> bool:
    return name in (*BASELINES, TISSUE)


def _gain_line(task: str, table: Mapping[str, Mapping[str, float | int]], variant: str) -> str:
    gain = table[f"auroc gain over {variant}"]
    return (
        f"| {task} | {variant} | {table[f'auroc, {variant}']['value']:.3f} | {gain['value']:+.3f} "
        f"| {gain['low']:+.3f} to {gain['high']:+.3f} |"
    )
