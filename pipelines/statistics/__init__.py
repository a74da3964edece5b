"""Statistics on plain arrays and DataFrames, usable alone: metrics with intervals over patients, paired tests, curves.

No model, no files. Classes are (N,) indices, probabilities (N, L).
"""

from pipelines.statistics.certainty import brier, expected_calibration_error, set_coverage, set_size
from pipelines.statistics.classes import (
    METRICS,
    accuracy,
    auprc,
    auroc,
    average_precision,
    balanced_accuracy,
    binary_auroc,
    macro_f1,
    multilabel_auprc,
    multilabel_auroc,
    multilabel_brier,
    multilabel_f1,
    quadratic_kappa,
    top_k_accuracy,
)
from pipelines.statistics.comparison import DeLong, McNemar, delong_test, mcnemar_test
from pipelines.statistics.curves import (
    Agreement,
    Curve,
    Reliability,
    bland_altman,
    confusion_table,
    net_benefit,
    precision_recall_curve,
    reliability,
    roc_curve,
)
from pipelines.statistics.estimates import N_BOOTSTRAP, Difference, Estimate, bootstrap, paired_difference, resampled
from pipelines.statistics.frames import age_bands, measure_frame, measure_subgroups
from pipelines.statistics.masks import dice, hausdorff_95
from pipelines.statistics.ranking import mean_reciprocal_rank, ranks_of, recall_at
from pipelines.statistics.survival import concordance_index, interval_concordance

__all__ = [
    "METRICS",
    "N_BOOTSTRAP",
    "Agreement",
    "Curve",
    "DeLong",
    "Difference",
    "Estimate",
    "McNemar",
    "Reliability",
    "accuracy",
    "age_bands",
    "auprc",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "binary_auroc",
    "bland_altman",
    "bootstrap",
    "brier",
    "concordance_index",
    "confusion_table",
    "delong_test",
    "dice",
    "expected_calibration_error",
    "hausdorff_95",
    "interval_concordance",
    "macro_f1",
    "mcnemar_test",
    "mean_reciprocal_rank",
    "measure_frame",
    "measure_subgroups",
    "multilabel_auprc",
    "multilabel_auroc",
    "multilabel_brier",
    "multilabel_f1",
    "net_benefit",
    "paired_difference",
    "precision_recall_curve",
    "quadratic_kappa",
    "ranks_of",
    "recall_at",
    "reliability",
    "resampled",
    "roc_curve",
    "set_coverage",
    "set_size",
    "top_k_accuracy",
]
