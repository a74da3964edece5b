"""The commands of `medmm kg`, and pretraining on a small graph."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import kg
from pipelines.cli.kg import app

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def graph_file(small_graph: kg.KnowledgeGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kg.write(small_graph, tmp_path_factory.mktemp("kg-cli") / "small.kg")


def run(*arguments: object) -> str:
    result = RUNNER.invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_info_names_sources_with_version_and_licence(graph_file: Path) -> None:
    facts = json.loads(run("info", "--graph", graph_file, "--json"))
    table = run("info", "--graph", graph_file)

    assert facts["n_concepts"] == 9
    assert {source["name"]: source["version"] for source in facts["sources"]}["imaging"] == "2"
    assert "biolink:has_phenotype" in table


def test_build_takes_names_and_files(tmp_path: Path) -> None:
    (tmp_path / "own_concepts.csv").write_text("id,kind,name\nLOCAL:1,disease,Snow lung\n")
    out = tmp_path / "own.kg"

    run("build", "--source", f"{tmp_path / 'own_concepts.csv'},pathology", "--out", out)

    graph = kg.read(out)
    assert "LOCAL:1" in graph
    assert "MEDMM:p/ductal_carcinoma_in_situ" in graph


def test_link_reads_text_a_file_and_standard_input(graph_file: Path, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("No seizure.")

    from_file = json.loads(run("link", tmp_path / "report.txt", "--graph", graph_file, "--json"))
    piped = RUNNER.invoke(app, ["link", "-", "--graph", str(graph_file), "--json"], input="No seizure.")

    assert [(one["concept"], one["name"], one["status"]) for one in from_file] == [("HP:1", "Seizure", "absent")]
    assert json.loads(piped.stdout) == from_file
    assert "No concept" in run("link", "nothing here", "--graph", graph_file)


def test_ids_are_never_cut_and_a_pipe_gets_whole_lines(graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Restricted diffusion. No seizure. Mother had a ring enhancement."
    piped = run("link", text, "--graph", graph_file).splitlines()
    monkeypatch.setattr("pipelines.cli.kg.stdout", lambda: Console(width=60, markup=False))

    narrow = run("link", text, "--graph", graph_file)

    assert len(piped) == 4  # a heading, and a line a mention
    assert "present, of a relative" in piped[3]
    assert all(one in narrow for one in ("RSD:f/ring", "HP:1"))
    assert max(map(len, narrow.splitlines())) <= 60


@pytest.mark.parametrize("name", ["report.txt", "./report", "/data/r1", "notes.JSON"])
def test_a_file_that_is_not_there_is_no_text(graph_file: Path, name: str) -> None:
    result = RUNNER.invoke(app, ["link", name, "--graph", str(graph_file)])

    assert result.exit_code == 2
    assert "found no file" in result.output


@pytest.mark.parametrize("text", ["seizure.", "CT/MR", "Seizure since 3.5 years", "seizure/ring"])
def test_a_short_text_is_no_file(graph_file: Path, text: str) -> None:
    run("link", text, "--graph", graph_file)


def test_build_names_the_nearest_source_and_refuses_none(tmp_path: Path) -> None:
    out = str(tmp_path / "x.kg")

    unknown = RUNNER.invoke(app, ["build", "--source", "hpp", "--out", out])
    none = RUNNER.invoke(app, ["build", "--source", " , ", "--out", out])

    assert isinstance(unknown.exception, kg.SourceError)
    assert "Did you mean hpo? Installed: dicom, hpo," in str(unknown.exception)
    assert none.exit_code == 2
    assert "at least one source" in none.output
    assert not (tmp_path / "x.kg").exists()


def test_rank_says_why(graph_file: Path) -> None:
    ranked = json.loads(run("rank", "Restricted diffusion.", "--graph", graph_file, "--json"))

    assert ranked[0]["concept"] == "OMIM:11"
    assert ranked[0]["paths"][0]["hops"][0]["source"] == "imaging"
    assert "Restricted diffusion" in run("rank", "Restricted diffusion.", "--graph", graph_file)
    assert "No path" in run("rank", "No seizure.", "--graph", graph_file)


def test_path_takes_names_and_draws(graph_file: Path, tmp_path: Path) -> None:
    ends = ("path", "Ring enhancement", "Glioblastoma", "--graph", graph_file, "--picture")

    out = run(*ends, tmp_path / "evidence.svg")
    run(*ends, tmp_path / "evidence.png")
    wrong = RUNNER.invoke(app, [str(one) for one in (*ends, tmp_path / "evidence.bmp")])
    nowhere = RUNNER.invoke(app, [str(one) for one in (*ends, tmp_path / "none" / "evidence.svg")])

    assert "[imaging]" in out
    assert (tmp_path / "evidence.svg").read_text().startswith("<svg")
    assert (tmp_path / "evidence.png").read_bytes().startswith(b"\x89PNG")
    assert wrong.exit_code == nowhere.exit_code == 2
    assert "folder" in nowhere.output


def test_unknown_concept_is_a_usage_error(graph_file: Path) -> None:
    result = RUNNER.invoke(app, ["path", "Snow", "Glioblastoma", "--graph", str(graph_file)])

    assert result.exit_code == 2
    assert "no concept" in result.output


def test_export_writes_both_formats(graph_file: Path, tmp_path: Path) -> None:
    said = json.loads(run("export", "--graph", graph_file, "--out", tmp_path / "kgx", "--json"))
    run("export", "--graph", graph_file, "--format", "graphml", "--out", tmp_path / "g.graphml")

    assert said["files"] == [str(tmp_path / "kgx" / name) for name in ("nodes.tsv", "edges.tsv")]
    assert (tmp_path / "kgx" / "nodes.tsv").exists()
    assert "Seizure" in (tmp_path / "g.graphml").read_text()


@pytest.fixture(scope="module")
def ring_graph() -> kg.KnowledgeGraph:
    """Twelve diseases that each share findings with their neighbours on a ring."""
    from kg.building import build_from_tables
    from kg.schema import HAS_PHENOTYPE, ConceptRecord, RelationRecord, Source, SourceTables

    concepts = [ConceptRecord(f"D:{at:02d}", "disease", f"disease {at}") for at in range(12)]
    concepts += [ConceptRecord(f"P:{at:02d}", "phenotype", f"sign {at}") for at in range(12)]
    relations = [
        RelationRecord(f"D:{at:02d}", HAS_PHENOTYPE, f"P:{(at + step) % 12:02d}")
        for at in range(12)
        for step in range(4)
    ]
    source = Source(name="ring", version="1", licence="CC0")
    return build_from_tables([SourceTables(source=source, concepts=concepts, relations=relations)])


def test_split_shares_no_pair_between_its_sides(ring_graph: kg.KnowledgeGraph) -> None:
    from pipelines.recipes.kg_pretraining.splits import split_relations

    split = split_relations(ring_graph, held_out=0.2)

    arrays = ring_graph.arrays
    sides = [
        {frozenset((int(arrays["subject"][row]), int(arrays["object"][row]))) for row in rows}
        for rows in (split.messages, split.validation, split.test)
    ]
    assert all(sides)
    assert sides[0].isdisjoint(sides[1] | sides[2])
    assert sides[1].isdisjoint(sides[2])


def test_filtered_rank_ignores_other_true_answers_and_shares_ties(ring_graph: kg.KnowledgeGraph) -> None:
    from pipelines.recipes.kg_pretraining.measures import filtered_ranks
    from pipelines.recipes.kg_pretraining.questions import AnswerBook, questions_of

    asked = questions_of(ring_graph, np.arange(ring_graph.n_relations))
    known, count = AnswerBook(asked), ring_graph.n_concepts

    def perfect(anchors: np.ndarray, relations: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(anchors), count))
        for at, anchor in enumerate(anchors.tolist()):
            for neighbor in ring_graph.neighbors(anchor):
                scores[at, neighbor.concept] = 1
        return scores

    best = filtered_ranks(asked, known, perfect)
    blind = filtered_ranks(asked, known, lambda anchors, relations: np.zeros((len(anchors), count)))

    assert (best == 1).all()
    np.testing.assert_array_equal(blind, 1 + (count - 4) / 2)  # each question has four answers: three are left out


def test_a_score_that_is_no_number_is_refused(ring_graph: kg.KnowledgeGraph) -> None:
    from pipelines.recipes.kg_pretraining.measures import filtered_ranks
    from pipelines.recipes.kg_pretraining.questions import AnswerBook, questions_of

    asked = questions_of(ring_graph, np.arange(3))

    with pytest.raises(ValueError, match="finite"):
        filtered_ranks(asked, AnswerBook(asked), lambda a, r: np.full((len(a), ring_graph.n_concepts), np.nan))


def test_a_neighbourhood_hides_what_is_asked_and_how_often_it_is_said(ring_graph: kg.KnowledgeGraph) -> None:
    from pipelines.recipes.kg_pretraining.messages import Messages

    messages = Messages(ring_graph, np.arange(ring_graph.n_relations))
    pair = (np.array([ring_graph.index("D:00")]), np.array([ring_graph.index("P:00")]))
    nothing = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    seeds, generator = np.array([pair[0][0], pair[1][0]]), np.random.default_rng(0)

    shown = messages.around(seeds, (50, 50), nothing, generator)
    hidden = messages.around(seeds, (50, 50), pair, generator)

    def links(found: object) -> set[frozenset[int]]:
        return {frozenset(found.concepts[edge]) for edge in found.edges.numpy().T}  # type: ignore[attr-defined]

    assert links(shown) - links(hidden) == {frozenset(seeds.tolist())}
    at = np.searchsorted(hidden.concepts, seeds)
    assert (hidden.nodes[at, -1] < shown.nodes[np.searchsorted(shown.concepts, seeds), -1]).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("layer", ["gat", "gatv2", "complex"])
def test_pretraining_learns_and_its_embeddings_belong_to_one_graph(
    layer: str, ring_graph: kg.KnowledgeGraph, small_graph: kg.KnowledgeGraph, tmp_path: Path
) -> None:
    from pipelines.recipes.kg_pretraining.comparing import difference_rows, measure_rows, read_compared
    from pipelines.recipes.kg_pretraining.keeping import keep, read_embeddings
    from pipelines.recipes.kg_pretraining.learners import PretrainSettings
    from pipelines.recipes.kg_pretraining.training import pretrain

    settings = PretrainSettings(layer=layer, width=16, steps=60, batch=16, n_random=8, n_tested=20)
    result = pretrain(ring_graph, settings)
    keep(result, ring_graph, tmp_path)

    assert result.curve[-1].loss < result.curve[0].loss
    np.testing.assert_array_equal(read_embeddings(tmp_path, ring_graph), result.embeddings)
    with pytest.raises(kg.GraphError, match="embeddings of graph"):
        read_embeddings(tmp_path, small_graph)
    compared = read_compared(ring_graph, [tmp_path])
    np.testing.assert_array_equal(compared.ranks["popularity"], result.popularity_ranks)
    assert [row[0] for row in measure_rows(compared)].count("popularity") == len(compared.parts)
    assert {row[0] for row in difference_rows(compared)} == {f"{tmp_path.name} - popularity"}


def test_free_vectors_find_the_other_sign_on_a_ring(ring_graph: kg.KnowledgeGraph) -> None:
    from pipelines.recipes.kg_pretraining.learners import PretrainSettings
    from pipelines.recipes.kg_pretraining.measures import reciprocal
    from pipelines.recipes.kg_pretraining.training import pretrain

    settings = PretrainSettings(layer="complex", width=16, steps=200, batch=24)
    result = pretrain(ring_graph, settings)

    assert reciprocal(result.ranks) > reciprocal(result.popularity_ranks)
