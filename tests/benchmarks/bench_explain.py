"""What does an explanation cost, in forward passes? `python tests/benchmarks/bench_explain.py [--slices 24]`.

One model of all four modalities (the widths of `glioma-mri`, MiniLM, random weights) and one phantom of three sequences
with a report and a record, in one run: a forward pass from the case to its answers, the fast and the full explanation
on top of it, and for comparison captum asked once for each modality and task, and MONAI's Grad-CAM asked once a task.
CPU seconds of one thread, after a warm-up, because the machine may be shared.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from captum.attr import InputXGradient
from monai.visualize import GradCAM
from torch import Tensor, nn

import kg
from medmm.checkpoint import LoadedModel
from medmm.config import ClassSpec, GraphSpec, Labels, ModelConfig, RegionSpec, TaskSpec, TextSpec, VolumeSpec
from medmm.diagnose import Diagnoser
from medmm.encoders.record import CategoricalField, NumericField
from medmm.encoders.text import MINILM, TextEncoder
from medmm.explain.gradients import margin
from medmm.explain.methods import VOLUME_METHODS, ExplanationMethods
from medmm.explain.question import VolumeQuestion, ask
from medmm.inputs import CaseView, collate
from medmm.model import MultimodalModel
from medmm.preprocess import Preprocessing
from medmm.types import Case, Record, Report, Volume

ROLES = ("t1", "flair", "t1ce")
REPORT = (
    "Findings: There is a lesion in the left frontal lobe. It shows irregular ring enhancement with vasogenic edema. "
    "No dural tail. No hemorrhage. The ventricles are of normal size. Spectroscopy shows an elevated choline peak. "
    "Impression: Mass with ring enhancement; further work-up is advised."
)
TASKS = (
    TaskSpec(
        name="diagnosis",
        title="Diagnosis",
        kind="exclusive",
        classes=(
            ClassSpec(name="glioblastoma", title="Glioblastoma", concept="ORPHA:360"),
            ClassSpec(name="meningioma", title="Meningioma", concept="ORPHA:2495"),
        ),
    ),
    TaskSpec(
        name="grade",
        title="Grade",
        kind="ordinal",
        classes=tuple(ClassSpec(name=name, title=name) for name in ("low", "mid", "high")),
    ),
    TaskSpec(
        name="side",
        title="Side",
        kind="exclusive",
        source="location",
        classes=(ClassSpec(name="left", title="Left"), ClassSpec(name="right", title="Right")),
    ),
)


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def build_diagnoser() -> Diagnoser:
    graph, encoder = kg.load_default(), TextEncoder(MINILM)
    config = ModelConfig(
        name="bench",
        version="0.1.0",
        width=32,
        volume=VolumeSpec(
            preprocessing=Preprocessing(roles=ROLES, reference_order=ROLES),
            widths=(16, 24, 48, 96, 128, 16),
            regions=(RegionSpec(name="lesion", title="Lesion"),),
        ),
        text=TextSpec(source=MINILM, width=encoder.width),
        record=(
            NumericField(name="age_years", mean=50.0, deviation=15.0),
            CategoricalField(name="sex", categories=("f", "m")),
        ),
        graph=GraphSpec(size=150, hash=graph.hash),
    )
    torch.manual_seed(0)
    model = MultimodalModel(config, Labels(tasks=TASKS)).eval()
    loaded = LoadedModel(model=model, weights_sha256="0" * 64, card="", metrics={})
    return Diagnoser(loaded, text_encoder=encoder, graph=graph, device=torch.device("cpu"))


def build_case(slices: int) -> Case:
    rng = np.random.default_rng(0)
    i, j, k = np.meshgrid(np.arange(128), np.arange(128), np.arange(slices), indexing="ij")
    head = (i - 64) ** 2 + (j - 64) ** 2 < 52**2
    ball = (i - 40) ** 2 + (j - 70) ** 2 + (4 * (k - slices / 2)) ** 2 < 12**2
    volumes = {
        role: Volume(
            voxels=np.where(head, 100 + 8 * rng.standard_normal(head.shape) + 120 * ball, 0)[None].astype(np.float32),
            affine_ras=np.diag([2.0, 2.0, 5.0, 1.0]),
            modality="MR",
        )
        for role in ROLES
    }
    record = Record(values={"age_years": 61.0, "sex": "m"})
    return Case(case_id="phantom", volumes=volumes, report=Report(text=REPORT), record=record)


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a call after one warm-up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def forward(diagnoser: Diagnoser, case: Case) -> None:
    """Read and answer a case anew: trunk, text encoder, linker, graph walk, fusion."""
    diagnoser._views = {}
    diagnoser.diagnose(case)


def by_captum(diagnoser: Diagnoser, view: CaseView) -> None:
    """Input x gradient for volume, text and graph of every fusion task, each asked by itself."""
    encoder, encoded = diagnoser.reader.text_encoder, view.encoded
    assert encoder is not None and encoded is not None
    inputs = collate([view.features], diagnoser.reader)
    assert inputs.graph is not None

    def of_text(embedded: Tensor, task: TaskSpec) -> Tensor:
        sentences = encoder.sentences(encoder.contextual(embedded[0], encoded), encoded)[None]
        return margin(diagnoser.model(replace(inputs, text=sentences)).logits[task.name], 0, task.kind)

    def of_nodes(nodes: Tensor, task: TaskSpec) -> Tensor:
        changed = replace(inputs, graph=replace(inputs.graph, nodes=nodes[0]))
        return margin(diagnoser.model(changed).logits[task.name], 0, task.kind)

    for task in TASKS[:2]:
        question = ask(diagnoser.reader, view, task, 0)
        assert question is not None
        InputXGradient(question.margin).attribute(question.volume)
        InputXGradient(of_text).attribute(encoder.embed(encoded.ids)[None].detach(), additional_forward_args=task)
        InputXGradient(of_nodes).attribute(inputs.graph.nodes[None], additional_forward_args=task)


class Answers(nn.Module):
    """A task's logits as a function of the volume, as MONAI's Grad-CAM wants it."""

    def __init__(self, question: VolumeQuestion) -> None:
        super().__init__()
        self.trunk = question.reader.model.trunk
        self.question = question

    def forward(self, volume: Tensor) -> Tensor:
        margin_of_first = self.question.margin(volume)
        return torch.stack([margin_of_first, -margin_of_first], dim=1)


def by_monai(diagnoser: Diagnoser, view: CaseView) -> None:
    """Grad-CAM at the trunk's quarter resolution, asked once a task."""
    for task in TASKS:
        question = ask(diagnoser.reader, view, task, 0)
        assert question is not None
        cam = GradCAM(Answers(question), target_layers="trunk.unet.upcat_3")
        cam.compute_map(question.volume.clone().requires_grad_(), class_idx=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", action="store_true", help="also every volume method by name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    diagnoser, case = build_diagnoser(), build_case(options.slices)
    one = seconds(lambda: forward(diagnoser, case), options.repeats)
    diagnosis, view = diagnoser.diagnose(case), diagnoser.view(case)
    say(f"A forward pass of {options.slices} slices, a report of {len(REPORT.split())} words, 3 tasks: {one:.2f} CPU s")

    def show(name: str, call: Callable[[], object], repeats: int = 1) -> None:
        took = one + seconds(call, repeats)
        say(f"  diagnosis + {name:40s} {took:8.2f} CPU s  {took / one:6.1f} forward passes")

    show("fast explanation", lambda: diagnoser.explain(case, diagnosis), options.repeats)
    show("captum, each modality by itself", lambda: by_captum(diagnoser, view))
    show("MONAI's Grad-CAM", lambda: by_monai(diagnoser, view))
    show("full explanation", lambda: diagnoser.explain(case, diagnosis, "full"))
    for name in VOLUME_METHODS[1:] if options.methods else ():
        methods = ExplanationMethods(volume=name)
        show(f"fast explanation, {name}", lambda methods=methods: diagnoser.explain(case, diagnosis, methods=methods))


if __name__ == "__main__":
    main()
