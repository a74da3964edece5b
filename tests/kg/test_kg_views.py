"""Other forms of the graph: networkx, PyG, KGX, GraphML, pictures, the shuffled control, retrieval views."""

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import networkx
import numpy as np
import pytest
from PIL import Image

import kg
from kg.controls import shuffled_graph
from kg.drawing import draw_html, draw_png, draw_svg
from kg.export import write_graphml, write_kgx
from kg.lexical import LexicalIndex
from kg.retrieval import CandidateRanker, build_candidates, fuse
from kg.sources.files import read_file


def test_kgx_round_trip_keeps_concepts_and_relations(small_graph: kg.KnowledgeGraph, tmp_path: Path) -> None:
    nodes, _ = write_kgx(small_graph, tmp_path)

    tables = read_file(nodes)

    assert [concept.id for concept in tables.concepts] == small_graph.ids.to_list()
    assert [concept.kind for concept in tables.concepts] == [
        small_graph.kind(at) for at in range(small_graph.n_concepts)
    ]
    written = {(one.subject, one.predicate, one.object, one.polarity) for one in tables.relations}
    arrays = small_graph.arrays
    assert written == {
        (small_graph.id(s), small_graph.predicates[p], small_graph.id(o), int(arrays["polarity"][row]))
        for row, (s, p, o) in enumerate(small_graph.iterate_relations())
    }


def test_networkx_and_graphml_say_the_same(small_graph: kg.KnowledgeGraph, tmp_path: Path) -> None:
    view = small_graph.to_networkx()

    read = networkx.read_graphml(write_graphml(small_graph, tmp_path / "g.graphml"), force_multigraph=True)

    assert view.number_of_nodes() == small_graph.n_concepts == read.number_of_nodes()
    assert view.number_of_edges() == small_graph.n_relations == read.number_of_edges()
    assert read.nodes["HP:1"]["name"] == "Seizure"


def test_picture_is_well_formed_and_escapes_labels(small_graph: kg.KnowledgeGraph) -> None:
    paths = kg.paths(small_graph, ["RSD:f/ring"], "RSD:d/glioblastoma")
    evil = '<script>alert("x")</script>'

    svg, page = draw_svg(paths, evil), draw_html(paths, evil)

    assert ET.fromstring(svg).tag.endswith("svg")
    assert "<script" not in svg + page
    assert "Ring enhancement" in svg
    assert "default-src 'none'" in page
    assert "No path" in draw_svg([])


def test_long_names_are_written_in_two_lines_and_said_whole_in_the_title(small_graph: kg.KnowledgeGraph) -> None:
    [path, *_] = kg.paths(small_graph, ["RSD:f/ring"], "RSD:d/glioblastoma")
    name = "PHEOCHROMOCYTOMA, FAMILIAL, AND PARAGANGLIOMA OF THE HEAD AND NECK"
    long = replace(path, hops=tuple(replace(hop, object_name=name, subject_name=name) for hop in path.hops))

    svg = ET.fromstring(draw_svg([long]))

    group = next(one for one in svg if one.get("class") == "end")
    title, lines = group[0].text, [one.text for one in group if one.tag.endswith("text")]
    assert title == name
    assert lines == ["PHEOCHROMOCYTOMA,", "FAMILIAL, AND …"]


def test_shuffled_graph_keeps_every_degree_and_loses_the_meaning(small_graph: kg.KnowledgeGraph) -> None:
    control = shuffled_graph(small_graph, seed=3)

    np.testing.assert_array_equal(control.degrees, small_graph.degrees)
    assert sorted(control.arrays["predicate"].tolist()) == sorted(small_graph.arrays["predicate"].tolist())
    assert control.hash != small_graph.hash
    assert control.hash == shuffled_graph(small_graph, seed=3).hash


def test_lexical_scores_prefer_rare_shared_words() -> None:
    index = LexicalIndex(["mass in the liver", "mass in the lung", "mass"])

    scores = index.scores("There is a mass of the liver.")

    assert scores.argmax() == 0
    assert index.scores("").tolist() == [0, 0, 0]


def test_fusion_ignores_a_view_that_says_the_same_of_all() -> None:
    view = np.array([1.0, 2.0, 3.0])

    np.testing.assert_allclose(fuse([view, np.ones(3)]), fuse([view]))


def test_ranker_finds_the_candidate_by_finding_and_by_name(small_graph: kg.KnowledgeGraph) -> None:
    linker = kg.Linker(small_graph)
    names = {"a": ["Brain abscess (pyogenic)"], "b": ["Glioblastoma, left"], "c": ["Unknown thing"]}
    ranker = CandidateRanker(linker, build_candidates(linker, names))

    by_finding = ranker.scores("Restricted diffusion.")
    by_name = ranker.scores("Known glioblastoma.")

    assert [bool(one.concepts) for one in ranker.candidates] == [True, True, False]
    assert by_finding.argmax() == 0
    assert by_name.argmax() == 1


def test_png_shows_every_box_and_keeps_its_title(small_graph: kg.KnowledgeGraph) -> None:
    paths = kg.paths(small_graph, ["RSD:f/ring"], "RSD:d/glioblastoma")

    picture = Image.open(io.BytesIO(draw_png(paths, "Evidence <b>")))
    empty = Image.open(io.BytesIO(draw_png([])))

    colors = {color for _, color in picture.convert("RGB").getcolors(1 << 16) or []}
    assert picture.info["Title"] == "Evidence <b>"
    assert {(234, 242, 251), (253, 241, 227)} <= colors  # the finding's box and the diagnosis's
    assert empty.size[0] > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_hetero_data_holds_every_relation_between_its_kinds(small_graph: kg.KnowledgeGraph) -> None:
    from kg.torch_export import to_hetero

    features = np.arange(small_graph.n_concepts, dtype=np.float32)[:, None]

    data = to_hetero(small_graph, features=features)

    found = {
        (int(data[first].concepts[s]), predicate, int(data[second].concepts[o]))
        for (first, predicate, second), store in data.edge_items()
        for s, o in store.edge_index.T.tolist()
    }
    assert found == {(s, small_graph.predicates[p], o) for s, p, o in small_graph.iterate_relations()}
    assert all((store.x[:, 0] == store.concepts).all() for _, store in data.node_items())
    assert data.validate()
