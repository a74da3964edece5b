"""The graph, its file and its cache."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kg
from kg.building import build_from_tables
from kg.cache import cached_graph
from kg.errors import GraphError
from kg.schema import SourceTables


def test_import_is_fast_and_loads_no_heavy_library() -> None:
    code = (
        "import sys, time; start = time.process_time(); import kg; spent = time.process_time() - start;"
        "print(sorted({'torch', 'pandas', 'scipy', 'networkx', 'numpy'} & set(sys.modules)), spent < 1)"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[] True"


def test_public_names_are_sorted_and_all_resolve() -> None:
    assert list(kg.__all__) == sorted(kg.__all__)
    for name in kg.__all__:
        assert getattr(kg, name) is not None


def test_order_of_sources_does_not_change_the_graph(small_tables: list[SourceTables]) -> None:
    forward, backward = build_from_tables(small_tables), build_from_tables(small_tables[::-1])

    assert forward.hash == backward.hash


def test_the_hash_says_what_the_graph_says_not_who_built_it(
    small_graph: kg.KnowledgeGraph, small_tables: list[SourceTables]
) -> None:
    newer = [replace(table, source=replace(table.source, version="of tomorrow")) for table in small_tables]
    smaller = [replace(table, relations=table.relations[1:]) for table in small_tables]

    assert build_from_tables(newer).hash == small_graph.hash
    assert build_from_tables(smaller).hash != small_graph.hash


def test_same_name_and_kind_become_one_concept_under_the_better_authority(small_graph: kg.KnowledgeGraph) -> None:
    merged = small_graph.index("RSD:d/brain_abscess")

    assert small_graph.id(merged) == "OMIM:11"
    assert small_graph.aliases(merged) == ("OMIM:11", "RSD:d/brain_abscess")


def test_compound_finding_is_split_into_the_finding_it_names(small_graph: kg.KnowledgeGraph) -> None:
    neighbors = small_graph.neighbors(small_graph.index("RSD:f/thick_ring"))

    parts = {small_graph.id(one.concept): one.predicate for one in neighbors if one.is_forward}
    assert parts == {"RSD:f/ring": "biolink:has_part"}


def test_unknown_concept_raises(small_graph: kg.KnowledgeGraph) -> None:
    with pytest.raises(KeyError, match="HP:404"):
        small_graph.index("HP:404")
    assert "HP:404" not in small_graph


def test_columns_cannot_be_written(small_graph: kg.KnowledgeGraph) -> None:
    with pytest.raises(ValueError, match="read-only"):
        small_graph.arrays["weight"][0] = 2


def test_file_round_trip_keeps_everything(small_graph: kg.KnowledgeGraph, tmp_path: Path) -> None:
    read = kg.read(kg.write(small_graph, tmp_path / "graph.kg"))

    assert read.hash == small_graph.hash
    assert read.sources == small_graph.sources
    for name, array in small_graph.arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)


@pytest.mark.bad_input("H8")
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damaged_file_is_refused_and_a_damaged_cache_is_rebuilt(
    damage: str, small_graph: kg.KnowledgeGraph, tmp_path: Path
) -> None:
    path = kg.write(small_graph, tmp_path / "kg-key.kg")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-100] ^= 1
    broken = {"flip": data, "cut": data[: len(data) // 2], "empty": b"", "foreign": b"PK\x03\x04" * 100}[damage]
    path.write_bytes(bytes(broken))

    with pytest.raises(GraphError) as caught:
        kg.read(path)
    assert caught.value.code == "kg.version"
    assert caught.value.remedy
    assert cached_graph("key", lambda: small_graph, tmp_path).hash == small_graph.hash
    assert kg.read(path).hash == small_graph.hash


def test_no_temporary_file_is_left_when_writing_fails(
    small_graph: kg.KnowledgeGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kg.storage.os.fsync", fail)

    with pytest.raises(OSError, match="No space"):
        kg.write(small_graph, tmp_path / "graph.kg")
    assert list(tmp_path.iterdir()) == []


def test_default_graph_names_its_sources_with_version_and_licence(default_graph: kg.KnowledgeGraph) -> None:
    assert [source.name for source in default_graph.sources] == [
        "dicom",
        "hpo",
        "icd10cm",
        "pathology",
        "radiology",
        "medmm",
    ]
    assert default_graph.n_concepts > 80_000
    assert default_graph.n_relations > 330_000
    assert all(source.version and source.licence for source in default_graph.sources)
