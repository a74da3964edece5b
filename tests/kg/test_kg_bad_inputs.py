"""Bad knowledge files and graphs (section F of the requirements on bad inputs)."""

import gc
import gzip
import time
from pathlib import Path

import networkx
import pytest

import kg
from kg.building import build_from_tables
from kg.errors import KgError, SourceError
from kg.export import write_graphml
from kg.schema import (
    HAS_PHENOTYPE,
    SUBCLASS_OF,
    ConceptRecord,
    RelationRecord,
    Source,
    SourceTables,
    Synonym,
)
from kg.sources.files import read_file

GAP = ("D:01", "P:01")
SOURCE = Source(name="toy", version="1", licence="CC0")
ENTITY_BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE a SYSTEM "http://localhost:9/evil.dtd"><a/>'
FILE_ENTITY = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'


@pytest.mark.bad_input("F1")
@pytest.mark.parametrize("text", [ENTITY_BOMB, EXTERNAL, FILE_ENTITY, " " * 100_000 + "\n" + EXTERNAL[21:]])
def test_xml_with_a_doctype_is_refused_unread(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evil.owl"
    path.write_text(text)

    with pytest.raises(SourceError, match="without a DOCTYPE") as caught:
        read_file(path)
    assert caught.value.code == "kg.unsafe_xml"


@pytest.mark.bad_input("F2")
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("absent.obo", None),
        ("picture.png", b"\x89PNG"),
        ("empty.obo", b""),
        ("binary.obo", b"\xff\xfe\x00\x01" * 100),
        ("half.json", b'{"graphs": [{"nodes": [{"id": "http://x/DOID_1", "lb'),
        ("deep.json", b"[" * 200_000),
        ("other.json", b'{"a": 1}'),
        ("cut.obo.gz", gzip.compress(b"[Term]\nid: A:1\nname: a\n" * 1000, mtime=0)[:60]),
        ("half.owl", b'<?xml version="1.0"?><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><a>'),
        ("nodes.tsv", b"id,category,name\n1,2,3\n"),
        ("x_concepts.csv", b"id,kind,name\nLOCAL:1,spaceship,a\n"),
        ("x_nodes.tsv", b"id\tcategory\tname\nMONDO:1\tbiolink:Dis"),
        ("latin.obo", "[Term]\nid: DOID:1\nname: Ménière disease\n".encode("latin-1")),
    ],
)
def test_missing_wrong_or_cut_file_is_a_load_error_with_a_reason(tmp_path: Path, name: str, data: bytes | None) -> None:
    if name.endswith(".owl"):
        pytest.importorskip("pronto", reason="OWL needs the extra `owl`")
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(KgError, match="Expected") as caught:
        read_file(path)
    assert caught.value.code == "kg.load"
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.bad_input("F2")
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_own_knowledge_of_another_encoding_says_what_to_save_it_as(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "own_concepts.csv"
    path.write_bytes("id,kind,name\nLOCAL:1,disease,Schneelunge ä\n".encode(encoding))

    with pytest.raises(KgError, match="Save it as UTF-8") as caught:
        read_file(path)
    assert caught.value.code == "kg.load"


@pytest.mark.bad_input("F2")
def test_a_table_cut_in_its_last_row_is_refused(tmp_path: Path) -> None:
    header = "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source\n"
    row = "disease_protein,associated with,0,9796,gene/protein,PHYHIP,NCBI,5,4992,disease,cancer,MONDO\n"
    (tmp_path / "kg.csv").write_text(header + row + row[:60])

    with pytest.raises(SourceError, match=r"line 3 of kg\.csv.*cut"):
        read_file(tmp_path / "kg.csv")


@pytest.mark.bad_input("F2")
def test_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.obo.gz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(300):
            stream.write(bytes(1024 * 1024))

    with pytest.raises(SourceError, match="inflate") as caught:
        read_file(path)
    assert caught.value.code == "kg.load"


def tables(concepts: list[ConceptRecord], relations: list[RelationRecord]) -> SourceTables:
    return SourceTables(source=SOURCE, concepts=concepts, relations=relations)


@pytest.mark.bad_input("F3")
def test_defects_are_counted_and_survive_searches(caplog: pytest.LogCaptureFixture) -> None:
    concepts = [ConceptRecord(f"D:{n}", "disease", f"disease {n}") for n in range(5)]
    concepts += [ConceptRecord("D:0", "disease", "disease 0"), ConceptRecord("D:9", "disease", " ")]
    relations = [
        RelationRecord("D:0", SUBCLASS_OF, "D:1"),
        RelationRecord("D:1", SUBCLASS_OF, "D:2"),
        RelationRecord("D:2", SUBCLASS_OF, "D:0"),
        RelationRecord("D:3", SUBCLASS_OF, "D:3"),
        RelationRecord("D:3", SUBCLASS_OF, "D:404"),
        RelationRecord("D:3", HAS_PHENOTYPE, "D:4"),
        RelationRecord("D:3", HAS_PHENOTYPE, "D:4"),
    ]

    graph = build_from_tables([tables(concepts, relations)])

    assert graph.defects == {
        "concepts in is_a cycles": 3,
        "concepts without id or name": 1,
        "dangling relations": 1,
        "duplicate ids": 1,
        "duplicate relations": 1,
        "self loops": 1,
    }
    assert "is_a cycles" in caplog.text
    assert len(kg.paths(graph, ["D:0"], "D:2", max_hops=6, limit=10)) == 2
    assert kg.paths(graph, ["D:0"], "D:4", max_hops=6) == []


@pytest.mark.bad_input("F3")
def test_same_id_with_two_kinds_is_counted_and_the_first_kind_stays() -> None:
    first = tables([ConceptRecord("X:1", "disease", "a")], [])
    second = SourceTables(
        source=Source(name="zoo", version="1", licence="CC0"), concepts=[ConceptRecord("X:1", "anatomy", "a")]
    )

    graph = build_from_tables([second, first])

    assert graph.kind(graph.index("X:1")) == "disease"
    assert graph.defects["ids with two kinds"] == 1


@pytest.mark.bad_input("F5")
def test_text_without_any_term_gives_no_mention_no_rank_and_no_path(small_graph: kg.KnowledgeGraph) -> None:
    mentions = kg.link("Lorem ipsum dolor sit amet.", small_graph)

    assert mentions == []
    assert kg.rank(mentions, small_graph) == []
    assert kg.link("", small_graph) == []


@pytest.mark.bad_input("F6")
def test_hub_with_ten_thousand_neighbours_does_not_explode_path_search() -> None:
    hub = ConceptRecord("H:0", "phenotype", "hub")
    leaves = [ConceptRecord(f"D:{n:05d}", "disease", f"disease number {n}") for n in range(10_000)]
    relations = [RelationRecord(leaf.id, HAS_PHENOTYPE, "H:0") for leaf in leaves]
    relations += [RelationRecord(leaves[n].id, SUBCLASS_OF, leaves[n + 1].id) for n in range(9_999)]
    graph = build_from_tables([tables([hub, *leaves], relations)])

    start = time.process_time()
    found = kg.paths(graph, ["D:00000"], "D:09999", max_hops=6, limit=5)
    again = kg.paths(graph, ["D:00000"], "D:09999", max_hops=6, limit=5)

    assert time.process_time() - start < 20
    assert found == again
    assert len(found[0].hops) == 2


@pytest.mark.bad_input("F6")
def test_stop_word_synonyms_are_ignored() -> None:
    record = ConceptRecord("X:1", "disease", "Indium disease", (Synonym("in"), Synonym("as"), Synonym("on the")))
    graph = build_from_tables([tables([record], [])])

    assert kg.link("Seen in the liver as a mass on the left.", graph) == []
    assert len(kg.link("Known indium disease.", graph)) == 1


@pytest.mark.bad_input("F6")
def test_linking_time_grows_with_the_text_not_with_its_square(default_graph: kg.KnowledgeGraph) -> None:
    linker = kg.Linker(default_graph)
    text = "Ring-enhancing lesion in the left frontal lobe without hemorrhage. "

    def seconds(count: int) -> float:
        """Least of three, without the garbage collector, whose work grows with whatever else is in memory."""
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            linker.link(text * count)
            best = min(best, time.process_time() - start)
        return best

    gc.disable()
    try:
        seconds(50)
        ratio = seconds(4000) / max(seconds(400), 0.01)
    finally:
        gc.enable()

    assert ratio < 60  # ten times the text: about 10 if linear, 100 if quadratic


@pytest.mark.bad_input("F6")
def test_sentence_without_an_end_takes_time_in_proportion(small_graph: kg.KnowledgeGraph) -> None:
    linker = kg.Linker(small_graph)

    def seconds(count: int) -> float:
        start = time.process_time()
        assert len(linker.link("favor no headache " * count)) == count
        return time.process_time() - start

    seconds(50)

    assert seconds(5000) < 40 * max(seconds(500), 0.02)  # ten times the text: 100 times if quadratic


@pytest.mark.bad_input("F6")
def test_path_search_in_a_dense_graph_keeps_its_caps_and_its_best_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kg.evidence.MAX_BRANCHES", 20)
    monkeypatch.setattr("kg.evidence.MAX_WAITING", 200)
    monkeypatch.setattr("kg.evidence.MAX_EXPANSIONS", 500)
    diseases = [ConceptRecord(f"D:{n:02d}", "disease", f"disease {n}") for n in range(60)]
    signs = [ConceptRecord(f"P:{n:02d}", "phenotype", f"sign {n}") for n in range(60)]
    relations = [RelationRecord(d.id, HAS_PHENOTYPE, p.id) for d in diseases for p in signs if (d.id, p.id) != GAP]
    relations.append(RelationRecord(GAP[0], SUBCLASS_OF, "D:07"))
    graph = build_from_tables([tables([*diseases, *signs], relations)])

    found = kg.paths(graph, [GAP[1]], GAP[0], max_hops=6, limit=50)

    assert len(found[0].hops) == 2
    assert found == kg.paths(graph, [GAP[1]], GAP[0], max_hops=6, limit=50)


@pytest.mark.bad_input("F4")
def test_names_with_control_characters_and_broken_unicode_are_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(
        '{"graphs": [{"nodes": [{"id": "http://purl.obolibrary.org/obo/DOID_1", "lbl": "lung\\u0000 \\ud800cancer",'
        ' "meta": {"synonyms": [{"val": "\\u202egnul\\nx", "pred": "hasExactSynonym"}]}}]}]}'
    )

    graph = kg.build([path])

    assert graph.name(0) == "lung cancer"
    assert [one.text for one in graph.synonyms(0)] == ["gnul x"]
    write_graphml(graph, tmp_path / "g.graphml")
    assert networkx.read_graphml(tmp_path / "g.graphml").number_of_nodes() == 1


def test_unknown_error_code_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="Expected one of"):
        KgError("x", code="kg.unheard")
