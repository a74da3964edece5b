"""The commands of `medmm kg`, and pretraining on a small graph."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import kg
from medmm.errors import CODES, UsageError
from pipelines.cli.kg import app
from pipelines.cli.tables import show_table

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def graph_file(small_graph: kg.KnowledgeGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kg.write(small_graph, tmp_path_factory.mktemp("kg-cli") / "small.kg")


def run(*arguments: object) -> str:
    result = RUNNER.invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object, given: str | None = None) -> kg.KgError | UsageError:
    """The error that `main` turns into exit code 2, a sentence, what to do and a code."""
    error = RUNNER.invoke(app, [str(one) for one in arguments], input=given).exception
    assert isinstance(error, kg.KgError | UsageError), repr(error)
    assert error.code in CODES
    assert error.remedy
    return error


class Terminal(io.StringIO):
    """Standard output as a terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def on_terminal(command: Callable[[], object]) -> str:
    """What a command shows on a terminal of 80 columns."""
    screen = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stdout", screen)
        command()
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())


LONG_ID = "RSD:f/" + "_".join(["heterogeneous_enhancement"] * 5)
LONG_NAME = "Capillary malformation of the lower lip, lymphatic malformation of face and neck, asymmetry of limbs"


def test_a_pipe_gets_one_line_a_row_and_nothing_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(
        ("concept", "name", "note"), [(LONG_ID, LONG_NAME, "a\tb\nc"), ("HP:1", "Seizure", "")], whole=("concept",)
    )

    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows == [["concept", "name", "note"], [LONG_ID, LONG_NAME, "a b c"], ["HP:1", "Seizure", ""]]


def test_a_terminal_wraps_names_and_never_cuts_an_id() -> None:
    medium = "RSD:d/reversible_posterior_leukoencephalopathy"
    narrow = on_terminal(lambda: show_table(("concept", "name"), [(medium, LONG_NAME)], whole=("concept",)))
    wide = on_terminal(lambda: show_table(("concept", "name"), [(LONG_ID, LONG_NAME)], whole=("concept",)))

    assert medium in narrow
    assert max(len(line.rstrip()) for line in narrow.splitlines()) <= 80
    assert LONG_ID in wide
    assert "…" not in narrow + wide
    assert all(word in narrow and word in wide for word in LONG_NAME.split())


@pytest.mark.parametrize("command", ["link", "rank"])
def test_ids_of_a_terminal_are_those_of_the_json(command: str, graph_file: Path) -> None:
    arguments = [command, "Restricted diffusion and ring enhancement, no seizure.", "--graph", str(graph_file)]
    ids = {one["concept"] for one in json.loads(run(*arguments, "--json"))}

    shown = on_terminal(lambda: app(arguments, standalone_mode=False))

    assert ids
    assert all(one in shown for one in ids)


def test_link_says_denied_past_and_relatives_findings(graph_file: Path) -> None:
    text = "No seizure. Mother has a history of ring enhancement."
    rows = list(csv.DictReader(io.StringIO(run("link", text, "--graph", graph_file)), delimiter="\t"))

    assert [row["said"].split(",")[0] for row in rows] == ["absent", "present"]
    assert "of another person" in rows[1]["said"]
    assert "historical" in rows[1]["said"]


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
    nothing = RUNNER.invoke(app, ["link", "nothing here", "--graph", str(graph_file)])
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert "No concept" in nothing.stderr


@pytest.mark.parametrize(
    "name", ["missing.txt", "./case1", "/data/r1", "my last report.docx", "notes.JSON", "..\\case.rtf"]
)
def test_a_missing_file_is_not_taken_for_text(name: str, graph_file: Path) -> None:
    for command in ("link", "rank"):
        error = refused(command, name, "--graph", graph_file)

        assert error.code == "io.unreadable"
        assert "medmm kg link -" in error.remedy


@pytest.mark.parametrize(
    "text",
    [
        "No mass/lesion. CT w/o contrast.",
        "Seizure.",
        "3.5 cm mass",
        "Edema and/or seizure",
        "CT/MR",
        "seizure/ring",
        "Seizure 1.2.2020",
    ],
)
def test_text_with_a_slash_or_a_dot_stays_text(text: str, graph_file: Path) -> None:
    json.loads(run("link", text, "--graph", graph_file, "--json"))


@pytest.mark.parametrize("given", ["", "  \n"])
def test_nothing_to_link_is_said(given: str, graph_file: Path) -> None:
    assert refused("link", given, "--graph", graph_file).code == "report.empty"
    assert refused("link", "-", "--graph", graph_file, given=given).code == "report.empty"


def test_link_reads_what_a_windows_editor_writes_and_refuses_what_is_no_text(graph_file: Path, tmp_path: Path) -> None:
    (tmp_path / "utf16.txt").write_bytes("No seizure.".encode("utf-16"))
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4\n")

    found = json.loads(run("link", tmp_path / "utf16.txt", "--graph", graph_file, "--json"))
    pdf = RUNNER.invoke(app, ["link", str(tmp_path / "report.pdf"), "--graph", str(graph_file)])

    assert [one["concept"] for one in found] == ["HP:1"]
    assert getattr(pdf.exception, "code", "") == "report.format"


def test_rank_says_why(graph_file: Path) -> None:
    ranked = json.loads(run("rank", "Restricted diffusion.", "--graph", graph_file, "--json"))

    assert ranked[0]["concept"] == "OMIM:11"
    assert ranked[0]["paths"][0]["hops"][0]["source"] == "imaging"
    assert "Restricted diffusion" in run("rank", "Restricted diffusion.", "--graph", graph_file)
    assert "No path" in RUNNER.invoke(app, ["rank", "No seizure.", "--graph", str(graph_file)]).stderr


def test_path_takes_names_and_draws(graph_file: Path, tmp_path: Path) -> None:
    ends = ("path", "Ring enhancement", "Glioblastoma", "--graph", graph_file, "--picture")

    out = run(*ends, tmp_path / "evidence.svg")
    run(*ends, tmp_path / "evidence.png")
    run(*ends, tmp_path / "new" / "evidence.html")
    wrong = refused(*ends, tmp_path / "evidence.bmp")
    (tmp_path / "file").touch()
    blocked = refused(*ends, tmp_path / "file" / "evidence.svg")

    assert "[imaging]" in out
    assert (tmp_path / "evidence.svg").read_text().startswith("<svg")
    assert (tmp_path / "evidence.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new" / "evidence.html").read_text().startswith("<!doctype html>")
    assert (wrong.code, blocked.code) == ("config.output", "config.output")
    assert ".svg, .png or .html" in wrong.message


def test_unknown_concept_is_a_usage_error_that_names_what_is_near(graph_file: Path) -> None:
    unknown = refused("path", "Snow", "Glioblastoma", "--graph", graph_file)
    mistyped = refused("path", "Ring enhancement", "glioblastma", "--graph", graph_file)
    same = RUNNER.invoke(app, ["path", "Glioblastoma", "Glioblastoma", "--graph", str(graph_file)])

    assert (unknown.code, mistyped.code) == ("kg.no_match", "kg.no_match")
    assert "Glioblastoma" in mistyped.remedy
    assert same.exit_code == 2


@pytest.mark.parametrize("given", ["", " , "])
def test_build_without_a_source_is_refused(given: str, tmp_path: Path) -> None:
    error = refused("build", "--source", given, "--out", tmp_path / "empty.kg")

    assert error.code == "kg.load"
    assert "radiology" in error.remedy
    assert not (tmp_path / "empty.kg").exists()


def test_build_names_the_source_that_was_meant(tmp_path: Path) -> None:
    mistyped = refused("build", "--source", "hpo,radiolgy", "--out", tmp_path / "x.kg")
    twice = refused("build", "--source", "pathology,pathology", "--out", tmp_path / "x.kg")

    assert "'radiolgy'" in mistyped.message
    assert "Did you mean radiology? Installed: dicom, hpo, icd10cm" in mistyped.remedy
    assert "'pathology' twice" in twice.message


def test_build_takes_a_source_several_times_and_a_comma_in_a_file_name(tmp_path: Path) -> None:
    for name in ("a,b_concepts.csv", "c_concepts.csv"):
        (tmp_path / name).write_text(f"id,kind,name\nLOCAL:{name[0]},disease,Snow lung {name[0]}\n")

    run(
        "build",
        "--source",
        tmp_path / "a,b_concepts.csv",
        "--source",
        tmp_path / "c_concepts.csv",
        "--out",
        tmp_path / "x.kg",
    )

    graph = kg.read(tmp_path / "x.kg")
    assert "LOCAL:a" in graph
    assert "LOCAL:c" in graph


def test_export_writes_both_formats(graph_file: Path, tmp_path: Path) -> None:
    run("export", "--graph", graph_file, "--out", tmp_path / "kgx")
    run("export", "--graph", graph_file, "--format", "graphml", "--out", tmp_path / "g.graphml")

    assert (tmp_path / "kgx" / "nodes.tsv").exists()
    assert "Seizure" in (tmp_path / "g.graphml").read_text()


def test_export_says_in_json_what_it_wrote(graph_file: Path, tmp_path: Path) -> None:
    said = json.loads(run("export", "--graph", graph_file, "--out", tmp_path / "kgx", "--json"))

    assert (said["format"], said["n_concepts"]) == ("kgx", 9)
    assert [Path(one) for one in said["files"]] == [tmp_path / "kgx" / "nodes.tsv", tmp_path / "kgx" / "edges.tsv"]


def test_a_place_that_cannot_be_written_is_said(graph_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    errors = [
        refused("export", "--graph", graph_file, "--out", tmp_path / "file"),
        refused("export", "--graph", graph_file, "--format", "graphml", "--out", tmp_path / "folder"),
        refused("build", "--source", "pathology", "--out", tmp_path / "folder"),
        refused("embed", "--graph", graph_file, "--out", tmp_path / "file"),
    ]

    assert {error.code for error in errors} == {"config.output"}


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
