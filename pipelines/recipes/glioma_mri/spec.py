"""What glioma-mri is: its networks, its questions, and the answers' concepts in the knowledge graph."""

from typing import Literal

from kg import KnowledgeGraph
from medmm.config import Calibration, ClassSpec, GraphSpec, Labels, ModelConfig, RegionSpec, TaskSpec, VolumeSpec
from medmm.encoders.record import CategoricalField, NumericField
from pipelines.recipes.glioma_mri.data import PREPROCESSING
from pipelines.recipes.glioma_mri.where import SETTINGS

VERSION = "0.2.0"
COVERAGE = 0.8
_ANSWERS = Calibration(coverage=COVERAGE)

SIDE = TaskSpec(
    name="side",
    title="Side",
    kind="exclusive",
    source="location",
    calibration=_ANSWERS,
    classes=(ClassSpec(name="left", title="Left"), ClassSpec(name="right", title="Right")),
)
LOBE = TaskSpec(
    name="lobe",
    title="Lobe",
    kind="exclusive",
    source="location",
    laterality="folded",
    calibration=_ANSWERS,
    classes=(
        ClassSpec(name="frontal lobe", title="Frontal lobe", concept="SCT:83251001"),
        ClassSpec(name="temporal lobe", title="Temporal lobe", concept="SCT:78277001"),
        ClassSpec(name="parietal lobe", title="Parietal lobe", concept="SCT:16630005"),
        ClassSpec(name="occipital lobe", title="Occipital lobe", concept="SCT:31065004"),
    ),
)
# The graph has no concept for WHO grade 2 glioma as a whole, nor for oligoastrocytoma, which is no longer a diagnosis.
GRADE = TaskSpec(
    name="grade",
    title="WHO grade",
    kind="ordinal",
    calibration=_ANSWERS,
    classes=(
        ClassSpec(name="G2", title="Grade 2"),
        ClassSpec(name="G3", title="Grade 3", concept="RSD:d/high_grade_glioma"),
    ),
)
HISTOLOGY = TaskSpec(
    name="histology",
    title="Histology (pre-2016 WHO label)",
    kind="exclusive",
    calibration=_ANSWERS,
    classes=(
        ClassSpec(name="astrocytoma", title="Astrocytoma", concept="RSD:d/astrocytoma"),
        ClassSpec(name="oligoastrocytoma", title="Oligoastrocytoma"),
        ClassSpec(name="oligodendroglioma", title="Oligodendroglioma", concept="RSD:d/oligodendroglioma"),
    ),
)
# Probably the gliomas without IDH mutation; the graph has no concept for a cluster of clusters.
COC2 = TaskSpec(
    name="coc2",
    title="Tissue cluster 2 (TCGA cluster of clusters)",
    kind="exclusive",
    calibration=_ANSWERS,
    classes=(ClassSpec(name="no", title="Another cluster"), ClassSpec(name="yes", title="Cluster 2")),
)
LABELS = Labels(tasks=(SIDE, LOBE, GRADE, HISTOLOGY, COC2))
KnowledgeUse = Literal["real", "none"]


def build_config(graph: KnowledgeGraph, knowledge: KnowledgeUse = "real") -> ModelConfig:
    """Return the model's configuration; without the graph branch for the ablation `none`."""
    return ModelConfig(
        name="glioma-mri",
        version=VERSION,
        width=32,
        volume=VolumeSpec(
            preprocessing=PREPROCESSING,
            trunk=SETTINGS.trunk,
            tokens=("descriptor",),
            regions=(RegionSpec(name="tumour", title="Tumour (FLAIR abnormality)", concept="HP:0030692"),),
        ),
        record=(
            NumericField(name="age_years", mean=46.0, deviation=14.0, minimum=0, maximum=120),
            CategoricalField(name="sex", categories=("f", "m")),
        ),
        graph=GraphSpec(size=150, n_layers=2, hash=graph.hash) if knowledge == "real" else None,
    )
