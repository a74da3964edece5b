"""Walks, subgraphs, evidence paths and rankings."""

import networkx
import numpy as np
import pytest

import kg


def test_walk_equals_networkx(small_graph: kg.KnowledgeGraph) -> None:
    undirected = networkx.Graph()
    undirected.add_nodes_from(range(small_graph.n_concepts))
    matrix = small_graph.walk_matrix.tocoo()
    directed = networkx.DiGraph()
    directed.add_nodes_from(range(small_graph.n_concepts))
    directed.add_weighted_edges_from(zip(matrix.coords[1], matrix.coords[0], matrix.data.astype(float), strict=True))
    start = small_graph.index("RSD:f/ring")

    ours = small_graph.personalised_pagerank({"RSD:f/ring": 1.0}, alpha=0.5, steps=60)

    expected = networkx.pagerank(directed, alpha=0.5, personalization={start: 1.0}, tol=1e-12)
    np.testing.assert_allclose(ours, [expected[node] for node in range(small_graph.n_concepts)], atol=1e-5)


def test_batch_equals_single_walks(small_graph: kg.KnowledgeGraph) -> None:
    seeds = [{"HP:1": 1.0}, {"RSD:f/ring": 2.0, "HP:3": 1.0}, {}]

    batch = small_graph.personalised_pagerank_batch(seeds)

    singles = [small_graph.personalised_pagerank(one) for one in seeds]
    np.testing.assert_allclose(batch, np.stack(singles), atol=1e-7)


def test_denied_relation_carries_no_evidence(small_graph: kg.KnowledgeGraph) -> None:
    scores = small_graph.personalised_pagerank({"HP:1": 1.0})

    assert scores[small_graph.index("OMIM:11")] == 0
    assert scores[small_graph.index("OMIM:10")] > 0


def test_subgraph_holds_seeds_and_relations_among_its_concepts(small_graph: kg.KnowledgeGraph) -> None:
    part = small_graph.subgraph({"RSD:f/thick_ring": 1.0}, size=3)

    ids = [small_graph.id(concept) for concept in part.concepts]
    assert ids[0] == "RSD:f/thick_ring"
    assert set(ids) == {"RSD:f/thick_ring", "RSD:d/glioblastoma", "RSD:f/ring"}
    assert part.seed_weights.tolist() == [1.0, 0.0, 0.0]
    assert np.all(np.diff(part.scores) <= 0)
    named = {
        (ids[a], small_graph.predicates[r], ids[b]) for (a, b), r in zip(part.edges.T, part.relations, strict=True)
    }
    assert ("RSD:d/glioblastoma", "medmm:has_imaging_finding", "RSD:f/thick_ring") in named
    assert ("RSD:f/thick_ring", "biolink:has_part", "RSD:f/ring") in named


def test_subgraph_without_seeds_is_empty(small_graph: kg.KnowledgeGraph) -> None:
    part = small_graph.subgraph({})

    assert part.concepts.shape == (0,)
    assert part.edges.shape == (2, 0)


def test_path_names_source_version_and_trust_of_every_claim(small_graph: kg.KnowledgeGraph) -> None:
    best = kg.paths(small_graph, ["RSD:f/ring"], "RSD:d/glioblastoma")[0]

    assert [(hop.subject, hop.object, hop.is_forward, hop.source) for hop in best.hops] == [
        ("RSD:f/thick_ring", "RSD:f/ring", False, "medmm"),
        ("RSD:d/glioblastoma", "RSD:f/thick_ring", False, "imaging"),
    ]
    assert (best.start, best.end) == ("RSD:f/ring", "RSD:d/glioblastoma")
    degree = len(small_graph.neighbors(small_graph.index("RSD:f/thick_ring")))
    assert best.score == pytest.approx((0.5 * 0.7) * (0.8 * 0.5) * degree**-0.4, rel=1e-5)


@pytest.mark.bad_input("F5")
def test_no_path_is_invented(small_graph: kg.KnowledgeGraph) -> None:
    assert kg.paths(small_graph, ["HP:3"], "OMIM:10") == []
    assert kg.paths(small_graph, ["OMIM:10"], "OMIM:10") == []


def test_rank_puts_the_diagnosis_with_the_finding_first_and_says_why(small_graph: kg.KnowledgeGraph) -> None:
    mentions = kg.link("There is restricted diffusion and headache. No seizure.", small_graph)

    ranked = kg.rank(mentions, small_graph)

    assert ranked[0].concept == "OMIM:11"
    assert {path.start for path in ranked[0].paths} == {"RSD:f/diffusion", "HP:3"}


def test_rank_without_evidence_is_empty(small_graph: kg.KnowledgeGraph) -> None:
    assert kg.rank(kg.link("No seizure, no headache.", small_graph), small_graph) == []


# torch_geometric scripts a class when it is imported, which torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_pyg_data_keeps_relations_both_ways(small_graph: kg.KnowledgeGraph) -> None:
    from kg.torch_export import REVERSE_OFFSET, to_pyg

    part = small_graph.subgraph({"RSD:f/thick_ring": 1.0}, size=3)

    data = to_pyg(part, np.ones((3, 4), dtype=np.float32))

    half = part.edges.shape[1]
    assert data.edge_index.shape == (2, 2 * half)
    assert data.edge_type[half:].tolist() == (part.relations + REVERSE_OFFSET).tolist()
    assert data.x.shape == (3, 4)
