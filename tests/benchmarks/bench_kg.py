"""How fast is the knowledge graph, in one run against the usual tools? `python tests/benchmarks/bench_kg.py [--large]`.

One question a table, one thread (set OMP_NUM_THREADS=1), best of repeated calls after a warm-up, in CPU time because
the machine may be shared: load and build, case subgraph, personalised PageRank, dictionary linking; `--large` adds a
synthetic graph of 10 million relations. Tools that are not installed are left out and named.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import networkx
import numpy as np
import psutil

import kg
from kg.assemble import content_hash, relation_order, walk_columns
from kg.graph import GraphHeader, KnowledgeGraph
from kg.schema import KINDS, PREDICATES, Source
from kg.strings import StringTable
from kg.subgraph import induced
from kg.text.dictionary import build_dictionary
from kg.text.normalise import normalise

SENTENCES = (
    "There is a ring-enhancing lesion in the left frontal lobe with vasogenic edema and no hemorrhage. ",
    "Findings are compatible with pneumonia; small pleural effusion, without pneumothorax. ",
    "History of hepatocellular carcinoma, status post resection; possible recurrence versus metastasis. ",
    "The liver is enlarged, with multiple hypodense nodules and portal vein thrombosis. ",
)
LOAD = """
import sys, time, numpy, psutil, kg
from kg.storage import read
before = psutil.Process().memory_info().rss
wall, cpu = time.perf_counter(), time.process_time()
graph = read(sys.argv[1])
graph.name(graph.index("HP:0002240"))
times = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)
sys.stdout.write(f"{times[0]} {times[1]} {(psutil.Process().memory_info().rss - before) / 1e6}")
"""
SEEDS = {"HP:0002240": 1.0, "RSD:f/ring_enhancing_lesion": 1.0, "HP:0000238": 1.0}


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def cpu_ms(call: Callable[[], object], repeats: int) -> float:
    """Least CPU milliseconds of a call after one warm-up: what others do on the machine only adds to it."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(1000 * (time.process_time() - start))
    return min(times)


def show(title: str, rows: Sequence[tuple[str, float]], unit: str) -> None:
    best = min(value for _, value in rows)
    say(f"\n{title}")
    for name, value in rows:
        say(f"  {name:44s} {value:12.3f} {unit}  ({value / best:.1f}x)")


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def bench_load(folder: Path) -> KnowledgeGraph:
    """Build from the sources, then load from the cache."""
    start = time.process_time()
    kg.write(kg.build(), folder / "graph.kg")
    built = 1000 * (time.process_time() - start)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder / "graph.kg")], capture_output=True, text=True, check=True
    )
    wall, cpu, more = (float(number) for number in done.stdout.split())
    graph = kg.read(folder / "graph.kg")
    show("Default graph", [("build and write", built), ("load (verified), new process", cpu)], "ms CPU")
    say(f"  loading took {wall:.0f} ms of wall time and {more:.1f} MB more resident memory; {graph}")
    return graph


def bench_subgraph(graph: KnowledgeGraph) -> None:
    """1-hop, 2-hop and walk-ranked case subgraphs."""
    seeds = np.array(sorted(graph.index(one) for one in SEEDS))
    view = networkx.Graph()
    view.add_nodes_from(range(graph.n_concepts))
    view.add_edges_from((s, o) for s, _, o in graph.iterate_relations())

    def ours(hops: int) -> object:
        found = frontier = seeds
        for _ in range(hops):
            frontier = np.unique(_neighbors(graph, frontier))
            found = np.union1d(found, frontier)
        zeros = np.zeros(len(found), dtype=np.float32)
        return induced(graph, found, seed_weights=zeros, scores=zeros)

    def theirs(hops: int) -> object:
        found = set()
        for seed in seeds.tolist():
            found |= set(networkx.single_source_shortest_path_length(view, seed, cutoff=hops))
        return view.subgraph(found).copy()

    rows = {1: [("kg", cpu_ms(lambda: ours(1), 20))], 2: [("kg", cpu_ms(lambda: ours(2), 10))]}
    for hops in (1, 2):
        rows[hops].append(("networkx", cpu_ms(lambda hops=hops: theirs(hops), 3)))
    try:
        import torch
        from torch_geometric.utils import k_hop_subgraph
    except ImportError:
        say("torch_geometric is not installed")
    else:
        ends = np.stack([graph.arrays["subject"], graph.arrays["object"]]).astype(np.int64)
        edges = torch.from_numpy(np.concatenate([ends, ends[::-1]], axis=1))
        start = torch.from_numpy(seeds)
        for hops in (1, 2):
            call = lambda hops=hops: k_hop_subgraph(start, hops, edges, num_nodes=graph.n_concepts)  # noqa: E731
            rows[hops].append(("torch_geometric k_hop_subgraph", cpu_ms(call, 5)))
    for hops in (1, 2):
        show(f"Case subgraph, {hops} hop(s)", rows[hops], "ms CPU")
    show("Case subgraph, PageRank top 250", [("kg", cpu_ms(lambda: graph.subgraph(SEEDS), 10))], "ms CPU")


def _neighbors(graph: KnowledgeGraph, nodes: np.ndarray) -> np.ndarray:
    arrays, parts = graph.arrays, []
    for indptr, end, rows in (("forward_indptr", "object", None), ("backward_indptr", "subject", "backward_rows")):
        starts = arrays[indptr][nodes]
        counts = arrays[indptr][nodes + 1] - starts
        at = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        parts.append(arrays[end][at if rows is None else arrays[rows][at]])
    return np.concatenate(parts)


def bench_pagerank(graph: KnowledgeGraph) -> None:
    """Single and batched walks against networkx (same matrix, its default tolerance)."""
    matrix = graph.walk_matrix.tocoo()
    view = networkx.DiGraph()
    view.add_nodes_from(range(graph.n_concepts))
    view.add_weighted_edges_from(
        zip(matrix.coords[1].tolist(), matrix.coords[0].tolist(), matrix.data.tolist(), strict=True)
    )
    start = {graph.index(one): 1.0 for one in SEEDS}
    single = cpu_ms(lambda: graph.personalised_pagerank(SEEDS), 10)
    batch = cpu_ms(lambda: graph.personalised_pagerank_batch([SEEDS] * 32), 3) / 32
    theirs = cpu_ms(lambda: networkx.pagerank(view, alpha=0.5, personalization=start), 1)
    rows = [("kg, one case", single), ("kg, batch of 32, per case", batch), ("networkx.pagerank", theirs)]
    show("Personalised PageRank", rows, "ms CPU")


def bench_linking(graph: KnowledgeGraph) -> None:
    """Full linker (with context) against plain dictionary matchers over the same names."""
    texts = _reports()
    megabytes = sum(len(one) for one in texts) / 1e6
    start = time.process_time()
    dictionary = build_dictionary(graph)
    say(f"\nDictionary: {len(dictionary):,} names, built in {time.process_time() - start:.2f} s CPU")
    linker = kg.Linker(graph)
    full = cpu_ms(lambda: linker.link_batch(texts), 7)
    plain = cpu_ms(lambda: [dictionary.trie.find(normalise(one).tokens) for one in texts], 7)
    rows = [
        ("kg.Linker (names, synonyms, variants, context)", megabytes / full * 1000),
        ("kg dictionary alone", megabytes / plain * 1000),
    ]
    texts_of = (*graph.names.to_list(), *graph.synonym_table.to_list())
    names = sorted({name.lower() for name in texts_of if len(name) > 3})
    rows += _other_matchers(names, texts, megabytes)
    say(f"Linking, {megabytes:.2f} MB")
    for name, value in rows:
        say(f"  {name:44s} {value:12.3f} MB/s CPU")


def _reports() -> list[str]:
    """Case texts of the development data beside the checkout, else repeated sentences."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "medpix"
    if folder.is_dir():
        lines = [line for part in ("train", "dev") for line in (folder / f"cases_{part}.jsonl").open(encoding="utf-8")]
        cases = [json.loads(line) for line in lines]
        return ["\n".join((case["history"], case["exam"], case["findings"])) for case in cases]
    return ["".join(SENTENCES) * 5] * 500


def _other_matchers(names: list[str], texts: list[str], megabytes: float) -> list[tuple[str, float]]:
    rows = []
    try:
        from flashtext import KeywordProcessor
    except ImportError:
        say("flashtext is not installed")
    else:
        processor = KeywordProcessor()
        for name in names:
            processor.add_keyword(name)
        milliseconds = cpu_ms(lambda: [processor.extract_keywords(one) for one in texts], 3)
        rows.append(("flashtext (names and synonyms, no context)", megabytes / milliseconds * 1000))
    try:
        import spacy
        from spacy.matcher import PhraseMatcher
    except ImportError:
        say("spaCy is not installed")
    else:
        language = spacy.blank("en")
        matcher = PhraseMatcher(language.vocab, attr="LOWER")
        matcher.add("names", [language.make_doc(name) for name in names])
        milliseconds = cpu_ms(lambda: [matcher(language.make_doc(one)) for one in texts], 3)
        rows.append(("spaCy PhraseMatcher (names and synonyms, no context)", megabytes / milliseconds * 1000))
    return rows


def bench_large(folder: Path, n_relations: int = 10_000_000, n_concepts: int = 1_000_000) -> None:
    """A synthetic graph of 10 million relations with hubs: assemble, write, load, walk, memory."""
    generator = np.random.default_rng(0)
    start = time.process_time()
    weights = 1 / np.arange(1, n_concepts + 1) ** 0.8
    hubs = generator.choice(n_concepts, n_relations, p=weights / weights.sum())
    columns = {
        "subject": generator.integers(0, n_concepts, n_relations).astype(np.int32),
        "object": hubs.astype(np.int32),
        "predicate": generator.integers(0, len(PREDICATES), n_relations).astype(np.uint8),
        "relation_source": np.zeros(n_relations, dtype=np.uint8),
        "weight": np.ones(n_relations, dtype=np.float32),
        "polarity": np.ones(n_relations, dtype=np.int8),
    }
    arrays = relation_order(columns, n_concepts)
    arrays["kind"] = np.zeros(n_concepts, dtype=np.uint8)
    arrays["origin"] = np.zeros(n_concepts, dtype=np.uint8)
    ids = StringTable.pack([f"X:{at:07d}" for at in range(n_concepts)])
    empty = StringTable.pack([])
    blank = StringTable(np.zeros(n_concepts + 1, dtype=np.int64), np.zeros(0, dtype=np.uint8))
    for name, table in (("id", ids), ("name", ids), ("key", ids), ("text", blank), ("synonym", empty), ("xref", empty)):
        arrays |= {f"{name}_offsets": table.offsets, f"{name}_data": table.data}
    arrays["key_concept"] = np.arange(n_concepts, dtype=np.int32)
    for name in ("synonym", "xref"):
        arrays[f"{name}_indptr"] = np.zeros(n_concepts + 1, dtype=np.int64)
    arrays["synonym_scope"] = arrays["synonym_source"] = np.zeros(0, dtype=np.uint8)
    arrays |= walk_columns(arrays, np.ones(len(PREDICATES), dtype=np.float32), [1.0], n_concepts)
    source = Source(name="synthetic", version="1", licence="CC0")
    header = GraphHeader(
        builder="bench", kinds=tuple(KINDS), predicates=tuple(PREDICATES), sources=(source,), defects={}
    )
    graph = KnowledgeGraph(arrays=arrays, header=header, content_hash=content_hash(arrays, header))
    built = time.process_time() - start
    path = kg.write(graph, folder / "large.kg")
    del graph, arrays, columns, hubs
    before, start = resident_mb(), time.process_time()
    graph = kg.read(path)
    loaded, more = time.process_time() - start, resident_mb() - before
    seeds = {f"X:{at:07d}": 1.0 for at in (5, 500, 50_000)}
    walk = cpu_ms(lambda: graph.personalised_pagerank(seeds), 2)
    say(f"\n10 million relations: build {built:.1f} s, file {path.stat().st_size / 1e6:.0f} MB, load {loaded:.2f} s")
    say(f"  (verified), resident {more:.0f} MB more; PageRank {walk:.0f} ms, then {resident_mb() - before:.0f} MB more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also a synthetic graph of 10 million relations")
    is_large = parser.parse_args().large
    say(f"Python {sys.version.split()[0]}, {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = bench_load(folder)
        bench_subgraph(graph)
        bench_pagerank(graph)
        bench_linking(graph)
        if is_large:
            bench_large(folder)


if __name__ == "__main__":
    main()
