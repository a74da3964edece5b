"""Methods of explanations, each on its own: formulas, geometry, completeness, counterfactuals, random paths."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.visualize import GradCAM
from scipy import ndimage
from torch import nn

from kg import KnowledgeGraph
from kg.building import build_from_tables
from kg.schema import HAS_IMAGING_FINDING, ConceptRecord, RelationRecord, Source, SourceTables
from medmm.diagnose import Diagnoser
from medmm.encoders.lstm_text import LstmConfig, LstmTextEncoder
from medmm.encoders.slice_unet import look
from medmm.encoders.text import TextEncoder, sentence_spans
from medmm.errors import UsageError
from medmm.explain.activation_maps import gradcam, gradcam_plus_plus, hirescam, layercam
from medmm.explain.cohort import MapTests, measure_maps
from medmm.explain.counterfactual import Search, counterfactuals
from medmm.explain.faithfulness import in_blocks, mass_in, order_by_map, points_into
from medmm.explain.gradients import margin
from medmm.explain.graph_checks import random_path
from medmm.explain.methods import ExplanationMethods
from medmm.explain.question import VolumeQuestion, ask
from medmm.explain.removal import without_concepts, without_relations, without_sentences
from medmm.explain.sensitivity import occlusion, occlusions
from medmm.explain.text import integrated_pieces, masked_ids
from medmm.inputs import collate
from medmm.preprocess import prepare_volume
from medmm.types import Case, Volume
from pipelines.config import build_config


class SmallNet(nn.Module):
    """Two classes of a volume, read from one feature map, as libraries of activation maps expect it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(1, 5, 3, padding=1)
        self.head = nn.Linear(5, 2)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.relu(self.features(volume)).square().mean(dim=(2, 3, 4)))


@pytest.fixture(scope="module")
def diagnoser(graph: KnowledgeGraph, tmp_path_factory: pytest.TempPathFactory) -> Diagnoser:
    encoder = TextEncoder(str(tiny.write_tiny_bert(tmp_path_factory.mktemp("bert"))), 16)
    model = tiny.build_model(tiny.build_config(graph=graph, text="bert"))
    return tiny.build_diagnoser(model, text_encoder=encoder, graph=graph)


def question_of(diagnoser: Diagnoser, seed: int = 1) -> VolumeQuestion:
    question = ask(diagnoser.reader, diagnoser.view(tiny.build_case(seed)), tiny.KIND, 0)
    assert question is not None
    return question


def test_grad_cam_equals_that_of_monai() -> None:
    torch.manual_seed(0)
    net, volume = SmallNet().eval(), torch.randn(1, 1, 4, 6, 6, requires_grad=True)
    activations = net.features(volume).detach().requires_grad_()
    logits = net.head(nn.functional.relu(activations).square().mean(dim=(2, 3, 4)))
    (gradient,) = torch.autograd.grad(logits[0, 1], activations)

    found = gradcam(activations.detach()[0], gradient[0])

    expected = GradCAM(net, target_layers="features").compute_map(volume, class_idx=1)[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_plus_plus_prefers_a_small_strong_place_to_a_large_weak_one() -> None:
    activations = torch.zeros(2, 1, 8, 8)
    activations[0, 0, :6], activations[1, 0, 7, 7] = 1.0, 1.0  # a large and a small object
    gradient = torch.where(activations > 0, 0.1, 0.0)

    plain, weighed = gradcam(activations, gradient), gradcam_plus_plus(activations, gradient)

    assert weighed[0, 7, 7] / weighed[0, 0, 0] > 3 * plain[0, 7, 7] / plain[0, 0, 0]


def test_hirescam_adds_up_to_a_linear_answer() -> None:
    activations, weights = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)

    assert float(hirescam(activations, weights).sum()) == pytest.approx(float((activations * weights).sum()), rel=1e-5)


def test_layercam_shows_only_where_more_of_a_channel_would_help() -> None:
    activations, gradient = torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, -1.0]]]])

    assert layercam(activations, gradient).flatten().tolist() == [1.0, 0.0]


@settings(max_examples=8, deadline=None)
@given(first=st.integers(0, 5), depth=st.integers(1, 6), row=st.integers(0, 31), value=st.floats(-3, 3))
def test_looking_again_where_a_volume_changed_is_looking_at_all_of_it(
    diagnoser: Diagnoser, first: int, depth: int, row: int, value: float
) -> None:
    question = question_of(diagnoser)
    changed = question.volume.clone()
    changed[:, :, first : first + depth, row] = value

    again = question.look_again(changed)

    with torch.no_grad():
        whole = look(diagnoser.model.trunk, changed, question.present)
    torch.testing.assert_close(again.region_logits, whole.region_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(again.features, whole.features, rtol=1e-4, atol=1e-4)


def test_looking_again_in_bfloat16_is_looking_at_all_of_it_in_bfloat16(diagnoser: Diagnoser) -> None:
    question = question_of(diagnoser)
    changed = question.volume.clone()
    changed[:, :, 2, :5] = 1.0

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        again = question.look_again(changed)
        whole = look(diagnoser.model.trunk, changed, question.present)

    torch.testing.assert_close(again.region_logits, whole.region_logits, rtol=0.05, atol=0.05)
    torch.testing.assert_close(again.features, whole.features, rtol=0.05, atol=0.05)


edge, spacing = st.integers(36, 60), st.floats(1.5, 3.0)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(edge, edge, st.integers(10, 16)),
    spacing_mm=st.tuples(spacing, spacing, st.floats(3.0, 6.0)),
    other_mm=st.tuples(spacing, spacing, st.floats(3.0, 6.0)),
    place=st.tuples(*[st.floats(0.4, 0.6)] * 3),
)
def test_the_way_to_the_network_and_back_moves_nothing_by_half_a_voxel(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    other_mm: tuple[float, float, float],
    place: tuple[float, float, float],
) -> None:
    extent = np.array(shape) * spacing_mm
    centre_mm, width_mm = np.array(place) * extent, extent * 0.08
    flair = blob_volume(shape, np.array(spacing_mm), centre_mm, width_mm)
    t1 = blob_volume(tuple(np.ceil(extent / other_mm).astype(int)), np.array(other_mm), centre_mm, width_mm)
    prepared = prepare_volume({"flair": flair, "t1": t1}, tiny.PREPROCESSING)
    assert prepared is not None

    seen = np.clip(prepared.array - prepared.array.min(axis=(1, 2, 3), keepdims=True), 0, None)
    back = {
        "flair": prepared.grid.to_source(seen[1]),
        "t1": prepared.grid.to_volume(seen[0], t1),
    }

    for role, volume in (("flair", flair), ("t1", t1)):
        assert back[role].shape == volume.shape
        moved = np.array(centre_of(back[role])) - centre_of(volume.voxels[0])
        assert np.abs(moved).max() <= 0.5


def blob_volume(shape: tuple[int, ...], spacing_mm: np.ndarray, centre_mm: np.ndarray, width_mm: np.ndarray) -> Volume:
    """A smooth ball in world space; the first voxel's corner, not its centre, is the origin of both grids."""
    axes = [(np.arange(size) + 0.5) * step for size, step in zip(shape, spacing_mm, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    voxels = 100 * np.exp(-(((grid - centre_mm) / width_mm) ** 2).sum(axis=-1) / 2)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = spacing_mm / 2
    return Volume(voxels=voxels[None].astype(np.float32), affine_ras=affine, modality="MR")


def centre_of(values: np.ndarray) -> tuple[float, ...]:
    """Centre of mass of what is brighter than half the maximum, in voxels."""
    return ndimage.center_of_mass(np.where(values > 0.5 * values.max(), values, 0))


def test_methods_that_tell_series_apart_give_each_series_its_own_map(diagnoser: Diagnoser) -> None:
    case = tiny.build_case(1)

    explanation = diagnoser.explain(case, diagnoser.diagnose(case), methods=ExplanationMethods(volume="smoothgrad"))

    volumes = explanation.tasks["kind"].volumes
    assert [part.role for part in volumes] == ["t1", "flair"]
    assert sum(part.share for part in volumes) == pytest.approx(1)
    assert max(float(part.values.max()) for part in volumes) == pytest.approx(1)


@pytest.mark.parametrize("what", ["volume", "text"])
def test_an_unknown_method_is_refused_by_name(what: str) -> None:
    with pytest.raises(UsageError, match=f"Expected a method for the {what} out of .* \\(got 'magic'\\)"):
        ExplanationMethods(**{what: "magic"})  # type: ignore[arg-type]  # what the test is about


def test_a_batch_run_chooses_methods_by_its_settings() -> None:
    config = build_config(explain_volume="layercam", explain_text="integrated_gradients")

    assert config.methods == ExplanationMethods(volume="layercam", text="integrated_gradients")


def test_integrated_gradients_of_pieces_add_up_to_what_the_report_changes(diagnoser: Diagnoser) -> None:
    check_pieces_add_up(diagnoser)


def test_they_do_for_a_recurrent_encoder_too(graph: KnowledgeGraph) -> None:
    torch.manual_seed(0)
    encoder = LstmTextEncoder(LstmConfig(width=16)).eval()
    model = tiny.build_model(tiny.build_config(graph=graph, text="lstm"))

    check_pieces_add_up(tiny.build_diagnoser(model, text_encoder=encoder, graph=graph))  # type: ignore[arg-type]  # the same contract


def check_pieces_add_up(diagnoser: Diagnoser) -> None:
    reader, view = diagnoser.reader, diagnoser.view(tiny.build_case(1))
    encoder, encoded = reader.text_encoder, view.encoded
    assert encoder is not None and encoded is not None
    inputs = collate([view.features], reader)

    pieces = integrated_pieces(reader, inputs, encoded, tiny.KIND, 0, steps=64)

    def answer(ids: torch.Tensor) -> float:
        with torch.no_grad():
            states = encoder.sentences(encoder.contextual(encoder.embed(ids), encoded), encoded)
            text = reader.model(replace(inputs, text=states[None])).logits["kind"]
        return float(margin(text, 0, "exclusive"))

    gained = answer(encoded.ids) - answer(masked_ids(encoder, encoded))
    assert float(pieces.sum()) == pytest.approx(gained, abs=0.05 * max(abs(gained), 0.02))


def test_sentences_share_out_what_words_do(diagnoser: Diagnoser) -> None:
    case = tiny.build_case(1)

    part = diagnoser.explain(case, diagnoser.diagnose(case)).tasks["kind"]

    assert [item.text for item in part.sentences] == ["Ring enhancement on the left.", "No dural tail."]
    assert {item.section for item in part.sentences} == {"findings"}
    assert part.text_method == "gradient x input"


@pytest.mark.parametrize("text", ["", "One. Two; three\nfour", "FINDINGS:\nA ring.  \n\n No tail."])
def test_sentence_spans_cover_every_word_once(text: str) -> None:
    spans = sentence_spans(text)

    covered = "".join(text[start:end] for start, end in spans)
    assert "".join(covered.split()) == "".join(text.split())


def answers_without(needed: set[frozenset[int]]) -> Callable[[frozenset[int]], torch.Tensor]:
    """Class 0 holds until one of the sets is gone."""

    def chances(removed: frozenset[int]) -> torch.Tensor:
        is_changed = any(one <= removed for one in needed)
        lost = 0.01 * len(removed)
        return torch.tensor([0.4 - lost, 0.6 + lost] if is_changed else [0.9 - lost, 0.1 + lost])

    return chances


@pytest.mark.parametrize("needed", [{3}, {1, 4}, {0, 2, 5}])
def test_the_smallest_set_that_changes_the_answer_is_found(needed: set[int]) -> None:
    others = {frozenset({0, 1, 2, 3, 4, 5})}
    search = Search(6, 0, answers_without({frozenset(needed), *others}))

    assert search.find() == (frozenset(needed), True)


def test_without_such_a_set_every_set_was_tried() -> None:
    search = Search(3, 0, answers_without(set()))

    assert search.find() == (frozenset(), True)
    assert len(search.asked) == 8


def test_a_greedy_set_has_no_part_too_many_and_does_not_claim_to_be_smallest() -> None:
    needed = frozenset({3, 7, 9, 11})
    search = Search(12, 0, answers_without({needed}), budget=200)

    found, is_smallest = search.find()

    assert found == needed or not found
    assert not is_smallest
    assert len(search.asked) <= 200


def test_a_search_keeps_to_its_budget() -> None:
    search = Search(50, 0, answers_without(set()), budget=60)

    assert search.find() == (frozenset(), False)
    assert len(search.asked) <= 60


def test_counterfactuals_name_parts_of_the_case(diagnoser: Diagnoser) -> None:
    view = diagnoser.view(tiny.build_case(1))

    sentences, concepts = counterfactuals(diagnoser.reader, view, tiny.KIND, 0)

    assert sentences.n_candidates == 2 and concepts.n_candidates == 1
    for part in sentences.removed:
        assert tiny.REPORT[part.start : part.end] == part.text
    assert all(part.concept == tiny.RING for part in concepts.removed)


def test_without_its_sentence_a_finding_is_no_evidence(diagnoser: Diagnoser) -> None:
    view = diagnoser.view(tiny.build_case(1))

    features = without_sentences(diagnoser.reader, view, [sentence_spans(tiny.REPORT)[0]])

    assert features.subgraph is None
    assert features.text is not None and len(features.text) == 1
    assert features.summary is view.features.summary


def test_without_its_concept_the_case_has_no_subgraph(diagnoser: Diagnoser) -> None:
    view = diagnoser.view(tiny.build_case(1))

    assert without_concepts(diagnoser.reader, view, {tiny.RING}).subgraph is None


def test_a_cut_relation_is_not_walked(diagnoser: Diagnoser, graph: KnowledgeGraph) -> None:
    view = diagnoser.view(tiny.build_case(1))
    pair = frozenset((graph.index(tiny.RING), graph.index(tiny.GLIOBLASTOMA)))

    cut = without_relations(diagnoser.reader, view, [pair])

    assert cut.subgraph is not None and view.features.subgraph is not None
    assert cut.subgraph.edges.shape[1] < view.features.subgraph.edges.shape[1]
    assert cut.walk["kind"][0] < view.features.walk["kind"][0]


def test_a_random_path_starts_alike_and_takes_no_listed_relation() -> None:
    concepts = [ConceptRecord(f"RSD:f/{number}", "finding", f"finding {number}") for number in range(12)]
    relations = [
        RelationRecord(f"RSD:f/{one}", HAS_IMAGING_FINDING, f"RSD:f/{other}")
        for one in range(12)
        for other in range(one + 1, 12)
    ]
    source = Source(name="tiny", version="1", licence="CC0")
    graph = build_from_tables([SourceTables(source=source, concepts=concepts, relations=relations)])
    taken = {frozenset((0, 1)), frozenset((1, 2))}

    for seed in range(20):
        path = random_path(graph, (0, 1, 2), taken, np.random.default_rng(seed))

        assert path[0] == 0 and len(path) == 3 and 2 not in path
        assert all(frozenset(pair) not in taken for pair in pairwise(path))


def test_where_a_map_points_and_what_it_holds() -> None:
    values, mask = np.array([[[1.0, 3.0, -5.0]]]), np.array([[[0, 1, 1]]])

    assert points_into(values, mask)
    assert mass_in(values, mask) == pytest.approx(0.75)


def test_blocks_are_taken_in_the_order_of_the_map(diagnoser: Diagnoser) -> None:
    question = question_of(diagnoser)
    values = torch.rand(1, *question.volume.shape[2:])

    order = order_by_map(values, question, np.random.default_rng(0))

    table = (torch.nn.functional.avg_pool2d(question.head().float(), 4) >= 0.5).nonzero()
    taken = in_blocks(values)[tuple(table[order.copy()].T)]
    assert bool((taken.diff() <= 0).all())


def test_a_cohort_is_measured_against_its_baselines(diagnoser: Diagnoser) -> None:
    phantom = tiny.build_phantom(1)
    case = Case(case_id="a", volumes=phantom.volumes)

    rows = measure_maps(diagnoser, case, phantom.mask, tasks=["side"], methods=("lesion", "random", "centre", "region"))

    scores = {row.method: row for row in rows}
    assert list(scores) == ["lesion", "random", "centre", "region"]
    assert scores["random"].mass == pytest.approx(scores["random"].mask_share, rel=0.3)
    assert np.isfinite(scores["lesion"].repeated) and np.isnan(scores["centre"].repeated)
    assert all(0 <= row.deletion <= 1 and 0 <= row.insertion <= 1 for row in rows if row.has_map)


def test_boxes_are_covered_once_for_all_questions(diagnoser: Diagnoser) -> None:
    questions = [replace(question_of(diagnoser), target=target) for target in (0, 1)]

    together = occlusions(questions)

    for question, found in zip(questions, together, strict=True):
        torch.testing.assert_close(found, occlusion(question))
    assert not torch.equal(together[0], together[1])


def test_tests_of_a_cohort_can_be_left_out(diagnoser: Diagnoser) -> None:
    case = Case(case_id="a", volumes=tiny.build_phantom(1).volumes)

    (row,) = measure_maps(
        diagnoser, case, tasks=["side"], methods=("region",), tests=MapTests(curves=False, again=False)
    )

    assert np.isnan(row.deletion) and np.isnan(row.points)
