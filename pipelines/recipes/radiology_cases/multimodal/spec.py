"""What the model of radiology cases is: its networks, its questions, and the answers' concepts in the graph."""

from collections.abc import Mapping, Sequence

from kg import KnowledgeGraph, Linker
from kg.retrieval import build_candidates
from medmm.config import Calibration, ClassSpec, GraphSpec, ImagesSpec, Labels, ModelConfig, TaskSpec, TextSpec
from medmm.encoders.record import CategoricalField, NumericField
from medmm.encoders.text import MINILM
from pipelines.recipes.radiology_cases.cases import LOCATIONS, SUPERCLASSES, Diagnosis
from pipelines.training.what import WhatSettings

VERSION = "0.3.0"
LOCATION, SUPERCLASS, DIAGNOSIS = "location", "superclass", "diagnosis"
TEXT_WIDTH = 384  # of MiniLM
# Minutes on one core: on frozen features there is little to learn from some 500 cases.
SETTINGS = WhatSettings(epochs=8, batch_size=32, learning_rate=3e-3, weight_decay=0.1)
AGE = NumericField(name="age_years", mean=45.0, deviation=20.0, minimum=0, maximum=120)
SEX = CategoricalField(name="sex", categories=("f", "m"))

_PLACES: Mapping[str, str] = {
    "Abdomen": "SCT:818981001",
    "Head": "SCT:69536005",
    "Reproductive and Urinary System": "SCT:122489005",
    "Spine and Muscles": "SCT:421060004",
    "Thorax": "SCT:816094009",
}
_KINDS: Mapping[str, tuple[str, str]] = {
    "congenital_genetic": ("Congenital or genetic", "RSD:d/congenital_abnormality"),
    "infection": ("Infection", "RSD:d/infection"),
    "inflammatory_autoimmune": ("Inflammatory or autoimmune", "OMIM:109100"),
    "metabolic_toxic_endocrine": ("Metabolic, toxic or endocrine", "RSD:d/metabolic_disorder"),
    "neoplasm_benign": ("Benign neoplasm", "RSD:d/benign_tumor"),
    "neoplasm_cns": ("Neoplasm of the central nervous system", "HP:0100006"),
    "neoplasm_malignant": ("Malignant neoplasm", "RSD:d/cancer"),
    "obstructive_degenerative": ("Obstructive or degenerative", "RSD:d/obstruction"),
    "trauma_iatrogenic": ("Trauma or treatment", "RSD:d/trauma"),
    "vascular": ("Vascular", "RSD:d/vascular_disease"),
}


def build_labels(diagnoses: Sequence[Diagnosis], graph: KnowledgeGraph) -> Labels:
    """Return the questions T1 to T3; a diagnosis has the concept that its names mean, if the graph knows one."""
    concepts = diagnosis_concepts(diagnoses, graph)
    return Labels(
        tasks=(
            TaskSpec(
                name=LOCATION,
                title="Location",
                kind="exclusive",
                follows=DIAGNOSIS,
                calibration=Calibration(coverage=0.9),
                classes=tuple(ClassSpec(name=name, title=name, concept=_PLACES[name]) for name in LOCATIONS),
            ),
            TaskSpec(
                name=SUPERCLASS,
                title="Kind of disease",
                kind="exclusive",
                follows=DIAGNOSIS,
                calibration=Calibration(coverage=0.8, max_set_size=3),
                classes=tuple(
                    ClassSpec(name=name, title=_KINDS[name][0], concept=_KINDS[name][1]) for name in SUPERCLASSES
                ),
            ),
            TaskSpec(
                name=DIAGNOSIS,
                title="Diagnosis",
                kind="ranking",
                calibration=Calibration(coverage=0.8, max_set_size=10),
                classes=tuple(
                    ClassSpec(name=one.key, title=one.names[0], concept=concepts[one.key]) for one in diagnoses
                ),
            ),
        )
    )


def diagnosis_concepts(diagnoses: Sequence[Diagnosis], graph: KnowledgeGraph) -> dict[str, str]:
    """Return the concept by key that means a diagnosis best, or an empty string."""
    candidates = build_candidates(Linker(graph), {one.key: one.names for one in diagnoses})
    return {
        one.key: graph.id(max(one.concepts, key=lambda concept: (one.concepts[concept], -concept)))
        if one.concepts
        else ""
        for one in candidates
    }


def build_config(graph: KnowledgeGraph | None) -> ModelConfig:
    """Return the model's configuration; without a graph branch for None."""
    return ModelConfig(
        name="radiology-cases",
        version=VERSION,
        width=64,
        images=ImagesSpec(network="efficientnet-lite0", is_required=False),
        text=TextSpec(source=MINILM, width=TEXT_WIDTH),
        record=(AGE, SEX),
        graph=None if graph is None else GraphSpec(size=100, n_layers=1, sources=True, hash=graph.hash),
    )
