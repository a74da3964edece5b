"""Tiny models, graphs and phantoms for tests: every part is real, every width is small."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kg import KnowledgeGraph
from kg.building import build_from_tables
from kg.schema import (
    EXACT_MATCH,
    HAS_IMAGING_FINDING,
    ConceptRecord,
    RelationRecord,
    Source,
    SourceTables,
)
from medmm.checkpoint import LoadedModel
from medmm.config import (
    ClassSpec,
    GraphSpec,
    Labels,
    ModelConfig,
    RegionSpec,
    TaskSpec,
    TextSpec,
    VolumeSpec,
)
from medmm.diagnose import Diagnoser
from medmm.encoders.record import CategoricalField, NumericField
from medmm.encoders.slice_unet import SliceUNet
from medmm.encoders.text import TextEncoder
from medmm.model import MultimodalModel
from medmm.preprocess import Preprocessing, prepare_volume, region_to_model_grid
from medmm.types import Case, Record, Report, Section, Volume
from pipelines.training.augment import Augmentation
from pipelines.training.where import WhereExample, WhereSettings, train_where

ROLES = ("t1", "flair")
WIDTH = 8
TEXT_WIDTH = 16
WIDTHS = (4, 6, 8, 8, 8, 4)
PREPROCESSING = Preprocessing(roles=ROLES, reference_order=("flair", "t1"), size_pixels=32)
AGE = NumericField(name="age_years", mean=50.0, deviation=10.0, minimum=0, maximum=120)
SEX = CategoricalField(name="sex", categories=("f", "m"))
RING, TAIL, FRONTAL = "RSD:f/ring", "RSD:f/tail", "RSD:a/frontal"
GLIOBLASTOMA, MENINGIOMA, GLIOBLASTOMA_TWIN = "RSD:d/glioblastoma", "RSD:d/meningioma", "OMIM:137800"
CARD = "# tiny\n\n## Data\nPhantoms.\n\n## Limits\nKnows nothing.\n"
REPORT = "Ring enhancement on the left. No dural tail."
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [
    *("ring", "enhancement", "on", "the", "left", "right", "no", "dural", "tail", "brother", "had", "glioblastoma"),
    *(LETTERS + ".,-0123456789"),
    *(f"##{letter}" for letter in LETTERS),
]

KIND = TaskSpec(
    name="kind",
    title="Kind",
    kind="exclusive",
    classes=(
        ClassSpec(name="glioblastoma", title="Glioblastoma", concept=GLIOBLASTOMA),
        ClassSpec(name="meningioma", title="Meningioma", concept=MENINGIOMA),
        ClassSpec(name="other", title="Other"),
    ),
)
GRADE = TaskSpec(
    name="grade",
    title="Grade",
    kind="ordinal",
    classes=(ClassSpec(name="low", title="Low"), ClassSpec(name="mid", title="Mid"), ClassSpec(name="high", title="H")),
)
SIDE = TaskSpec(
    name="side",
    title="Side",
    kind="exclusive",
    source="location",
    classes=(ClassSpec(name="left", title="Left"), ClassSpec(name="right", title="Right")),
)
CANDIDATES = [("Glioblastoma", GLIOBLASTOMA), ("Meningioma", MENINGIOMA), ("Fall from a ladder", "")]
WHICH = TaskSpec(
    name="which",
    title="Which",
    kind="ranking",
    classes=tuple(ClassSpec(name=name, title=name, concept=concept) for name, concept in CANDIDATES),
)
SORT = TaskSpec(
    name="sort",
    title="Sort",
    kind="exclusive",
    classes=(ClassSpec(name="tumour", title="Tumour"), ClassSpec(name="injury", title="Injury")),
)
LABELS = Labels(tasks=(KIND, GRADE, SIDE))


def build_graph() -> KnowledgeGraph:
    """Two diseases with one finding each, the other name of one disease, and a place."""
    tables = SourceTables(
        source=Source(name="tiny", version="1", licence="CC0"),
        concepts=[
            ConceptRecord(GLIOBLASTOMA, "disease", "Glioblastoma"),
            ConceptRecord(GLIOBLASTOMA_TWIN, "disease", "Grade four astrocytic neoplasm"),
            ConceptRecord(MENINGIOMA, "disease", "Meningioma"),
            ConceptRecord(RING, "finding", "Ring enhancement"),
            ConceptRecord(TAIL, "finding", "Dural tail"),
            ConceptRecord(FRONTAL, "anatomy", "Frontal lobe"),
        ],
        relations=[
            RelationRecord(GLIOBLASTOMA, HAS_IMAGING_FINDING, RING),
            RelationRecord(MENINGIOMA, HAS_IMAGING_FINDING, TAIL),
            RelationRecord(GLIOBLASTOMA, EXACT_MATCH, GLIOBLASTOMA_TWIN),
        ],
    )
    return build_from_tables([tables])


def write_tiny_bert(folder: Path, *, positions: int = 64) -> Path:
    """Write a random BERT of width 16 with its word pieces, as transformers keeps them, weights in safetensors."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: index for index, word in enumerate([*special, *dict.fromkeys(WORDS)])}
    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=TEXT_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=positions,
    )
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """A head with one bright ball. `mask` (I, J, K) marks it."""

    volumes: dict[str, Volume]
    mask: np.ndarray
    is_left: bool


def build_phantom(
    seed: int = 0, shape: tuple[int, int, int] = (32, 32, 6), *, is_left: bool | None = None, contrast: float = 120.0
) -> Phantom:
    """Return a head of noise around 100 in air, with a ball on one side that differs on FLAIR by `contrast`."""
    rng = np.random.default_rng(seed)
    is_left = bool(rng.integers(2)) if is_left is None else is_left
    i, j, k = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    u, v = i / shape[0] - 0.5, j / shape[1] - 0.5
    head = u**2 + v**2 < 0.42**2
    centre = np.array([-0.2 if is_left else 0.2, rng.uniform(-0.1, 0.1), shape[2] / 2])
    mask = ((u - centre[0]) ** 2 + (v - centre[1]) ** 2 < 0.1**2) & (np.abs(k - centre[2]) < 2)
    noise = {role: 100 + 8 * rng.standard_normal(shape) for role in ROLES}
    affine = np.diag([4.0, 4.0, 5.0, 1.0])
    volumes = {
        role: Volume(
            voxels=np.where(head, noise[role] + (contrast if role == "flair" else 0) * mask, 0)[None].astype(
                np.float32
            ),
            affine_ras=affine,
            modality="MR",
        )
        for role in ROLES
    }
    return Phantom(volumes=volumes, mask=mask.astype(np.uint8), is_left=is_left)


def build_case(seed: int = 0, *, text: str | None = REPORT, is_left: bool | None = None) -> Case:
    """Return a phantom with a report and a record."""
    report = None if text is None else Report(text=text, sections=(Section("findings", 0, len(text)),))
    return Case(
        case_id=f"case-{seed}",
        volumes=build_phantom(seed, is_left=is_left).volumes,
        report=report,
        record=Record(values={"age_years": 61.0, "sex": "M"}),
    )


def build_config(
    *, graph: KnowledgeGraph | None = None, text: str | None = None, is_required: bool = False, has_volume: bool = True
) -> ModelConfig:
    """Return the configuration of a tiny model with the given branches, and always a record."""
    volume = VolumeSpec(
        preprocessing=PREPROCESSING,
        widths=WIDTHS,
        regions=(RegionSpec(name="lesion", title="Lesion"),),
        is_required=is_required,
    )
    return ModelConfig(
        name="tiny",
        version="0.1.0",
        width=WIDTH,
        volume=volume if has_volume else None,
        text=None if text is None else TextSpec(source=text, window=64, width=TEXT_WIDTH),
        record=(AGE, SEX),
        graph=None if graph is None else GraphSpec(size=10, n_layers=1, hash=graph.hash),
    )


def build_model(config: ModelConfig, labels: Labels = LABELS, seed: int = 0) -> MultimodalModel:
    """Return a random model whose batch norms have seen numbers, so that its answers are not all alike."""
    torch.manual_seed(seed)
    model = MultimodalModel(config, labels)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("concepts"):
                buffer.copy_(torch.randn_like(buffer))
    return model.eval()


def build_diagnoser(
    model: MultimodalModel, *, text_encoder: TextEncoder | None = None, graph: KnowledgeGraph | None = None
) -> Diagnoser:
    """Return a diagnoser on the CPU around a model that was never on disk."""
    loaded = LoadedModel(model=model, weights_sha256="0" * 64, card=CARD, metrics={})
    return Diagnoser(loaded, text_encoder=text_encoder, graph=graph, device=torch.device("cpu"))


def mark(model: MultimodalModel, bias: float) -> None:
    """Make the trunk mark everything (large bias) or nothing (very negative), whatever it sees."""
    with torch.no_grad():
        model.trunk.unet.final_conv.bias.fill_(bias)
        model.trunk.unet.final_conv.weight.mul_(0.01)


def build_examples(phantoms: Sequence[Phantom]) -> list[WhereExample]:
    """Return phantoms as the first step of training sees them."""
    examples = []
    for index, phantom in enumerate(phantoms):
        prepared = prepare_volume(phantom.volumes, PREPROCESSING)
        assert prepared is not None
        region = region_to_model_grid(phantom.mask, prepared.grid)
        examples.append(
            WhereExample(case=str(index), array=prepared.array, present=prepared.present, regions=region[None])
        )
    return examples


def train_tiny_trunk(phantoms: Sequence[Phantom], epochs: int = 6) -> SliceUNet:
    """Return a trunk that has looked at a few phantoms for a few seconds."""
    settings = WhereSettings(
        widths=WIDTHS, epochs=epochs, slices_per_case=12, batch_size=8, learning_rate=1e-2, seed=0, precision="32-true",
        augmentation=Augmentation(noise=0.05),
    )  # fmt: skip
    return train_where(build_examples(phantoms), settings).trunk
