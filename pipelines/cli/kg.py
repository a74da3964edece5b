"""`medmm kg`: look into the knowledge graph, build one, link text, rank diagnoses, follow evidence, export, embed."""

import json
import re
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.cli.console import one_line, plain_table, stderr, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from kg import EvidencePath, KnowledgeGraph, Mention

app = typer.Typer(
    no_args_is_help=True, help="The medical knowledge graph: info, build, link, rank, path, export, embed."
)

Graph = Annotated[
    Path | None, typer.Option("--graph", help="A file made by `medmm kg build`; default: the built-in one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_PICTURES = (".svg", ".png", ".html")
_LONGEST_NAME = 1024
# One word that ends like a file or leads through folders: nobody writes a report so ("CT/MR" has no file's ending).
_LOOKS_LIKE_A_FILE = re.compile(
    r"\S+\.(?:txt|text|md|csv|tsv|json|jsonl|xml|html?|pdf|rtf|docx?|dcm)|[.~]{0,2}/\S+", re.I
)
Text = Annotated[str, typer.Argument(help="The text, a text file, or - for standard input.")]


@app.command("info")
def info(graph: Graph = None, as_json: AsJson = False) -> None:
    """Say what the graph holds, by kind, relation and source, and what was left out."""
    found = _open(graph)
    facts = _facts(found)
    if as_json:
        _print_json(facts)
        return
    console = stdout()
    console.print(f"{found.n_concepts:,} concepts, {found.n_relations:,} relations, graph {found.hash}\n")
    for title in ("concepts", "synonyms", "relations"):
        console.print(_numbered(title, facts[title]), "")
    table = plain_table(
        "source",
        "version",
        "relations",
        "synonyms",
        "trust",
        "licence",
        whole=("source",),
        numbers=("relations", "synonyms", "trust"),
    )
    for source in facts["sources"]:
        numbers = (f"{source['relations']:,}", f"{source['synonyms']:,}", f"{source['trust']:.2f}")
        table.add_row(source["name"], one_line(source["version"]), *numbers, one_line(source["licence"]))
    console.print(table)
    if facts["left out or repaired"]:
        console.print("", _numbered("left out or repaired", facts["left out or repaired"]))


@app.command("build")
def build(
    out: Annotated[Path, typer.Option("--out", help="The graph file to write.")],
    source: Annotated[
        str, typer.Option("--source", help="Names and files, joined by commas (see docs/knowledge-graph.md).")
    ] = "dicom,hpo,icd10cm,pathology,radiology",
    as_json: AsJson = False,
) -> None:
    """Build a graph from installed sources and knowledge files, and write it to one file."""
    import kg

    parts = [part.strip() for part in source.split(",") if part.strip()]
    if not parts:
        raise typer.BadParameter("expected at least one source (got none)", param_hint="--source")
    built = kg.build(parts)
    kg.write(built, out)
    if as_json:
        _print_json(_facts(built))
    else:
        stdout().print(f"{built.n_concepts:,} concepts and {built.n_relations:,} relations written, graph {built.hash}")
        for reason, number in built.defects.items():
            stderr().print(f"  {number:,} {reason}")


@app.command("link")
def link(text: Text, graph: Graph = None, as_json: AsJson = False) -> None:
    """Find the concepts that a report names, and what it says about each."""
    import kg

    found, content = _open(graph), _read_text(text)
    mentions = kg.link(content, found)
    rows = [
        asdict(one) | {"name": found.name(at := found.index(one.concept)), "kind": found.kind(at)} for one in mentions
    ]
    if as_json:
        _print_json(rows)
        return
    table = plain_table("text", "said to be", "concept", "kind", "name", whole=("concept", "kind"))
    for mention, row in zip(mentions, rows, strict=True):
        table.add_row(one_line(mention.text), _said_of(mention), mention.concept, row["kind"], one_line(row["name"]))
    stdout().print(table if rows else "No concept of the graph is named in this text.")


@app.command("rank")
def rank(
    text: Text,
    graph: Graph = None,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="Most diagnoses shown.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Rank the diagnoses that a report speaks for, each with the claims that support it."""
    import kg

    found = _open(graph)
    ranked = kg.rank(kg.link(_read_text(text), found), found, top=top)
    if as_json:
        _print_json([asdict(one) for one in ranked])
        return
    table = plain_table("", "score", "diagnosis", "concept", "best evidence", whole=("concept",), numbers=("", "score"))
    for place, one in enumerate(ranked, start=1):
        why = _sentence(one.paths[0]) if one.paths else "further than three claims away"
        table.add_row(str(place), f"{one.score:.3f}", one_line(one.name), one.concept, why)
    stdout().print(table if ranked else "No path: nothing in this text is evidence in the graph.")


@app.command("path")
def path(
    start: Annotated[list[str], typer.Argument(help="Names or ids of findings, then the diagnosis last.")],
    graph: Graph = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Most paths.")] = 5,
    hops: Annotated[int, typer.Option("--hops", min=1, max=6, help="Most claims a path.")] = 3,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw the paths into an .svg, .png or .html file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best chains of claims from findings to a diagnosis, with the source of every claim."""
    import kg

    if len(start) < 2:
        raise typer.BadParameter("expected at least one finding and then the diagnosis")
    if picture is not None:
        _check_picture(picture)
    found = _open(graph)
    *findings, target = (_resolve(found, one) for one in start)
    paths = kg.paths(found, findings, target, limit=limit, max_hops=hops)
    if picture is not None:
        _draw(paths, f"Evidence for {found.name(found.index(target))}", picture)
    if as_json:
        _print_json([asdict(one) for one in paths])
        return
    for one in paths:
        stdout().print(f"{one.score:.3f}  {_sentence(one)}")
    if not paths:
        stdout().print("No path in the graph within this many claims.")


@app.command("export")
def export(
    out: Annotated[Path, typer.Option("--out", help="Folder for KGX, file for GraphML.")],
    kind: Annotated[Literal["kgx", "graphml"], typer.Option("--format", help="What to write.")] = "kgx",
    graph: Graph = None,
    as_json: AsJson = False,
) -> None:
    """Write the graph for other tools: KGX as nodes.tsv and edges.tsv, or one GraphML file."""
    from kg.export import write_graphml, write_kgx

    found = _open(graph)
    written = write_kgx(found, out) if kind == "kgx" else (write_graphml(found, out),)
    if as_json:
        _print_json({"graph": found.hash, "files": [str(one) for one in written]})
        return
    for one in written:
        stdout().print(str(one))


@app.command("embed")
def embed(
    out: Annotated[Path, typer.Option("--out", help="Folder for the weights and the concepts' embeddings.")],
    graph: Graph = None,
    layer: Annotated[Literal["gat", "gatv2"], typer.Option("--layer", help="Attention layer.")] = "gatv2",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Seed of splits, weights and negatives.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a graph attention network to predict left-out relations, and keep every concept's embedding."""
    from pipelines.recipes.kg_pretraining.keeping import keep
    from pipelines.recipes.kg_pretraining.learners import PretrainSettings
    from pipelines.recipes.kg_pretraining.measures import measures
    from pipelines.recipes.kg_pretraining.training import pretrain

    found = _open(graph)
    result = pretrain(found, PretrainSettings(layer=layer, steps=steps, seed=seed))
    keep(result, found, out)
    test, popularity = measures(result.ranks), measures(result.popularity_ranks)
    if as_json:
        _print_json({"graph": found.hash, "test": test, "popularity": popularity})
        return
    for name, values in ((layer, test), ("popularity", popularity)):
        stdout().print(f"{name:>10}  " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))


def _numbered(title: str, numbers: dict[str, int]) -> "Table":
    table = plain_table(title, "number", numbers=("number",))
    for name, number in numbers.items():
        table.add_row(name, f"{number:,}")
    return table


def _said_of(mention: "Mention") -> str:
    """What the text says of a mention, what goes without saying left out: it is the patient's, and of now."""
    others = [
        "of a relative" if mention.experiencer == "other" else "",
        mention.temporality if mention.temporality != "recent" else "",
    ]
    return ", ".join([mention.status, *filter(None, others)])


def _check_picture(picture: Path) -> None:
    if picture.suffix.lower() not in _PICTURES:
        raise typer.BadParameter(
            f"expected a picture named {', '.join(_PICTURES)} (got {one_line(picture.name)!r})", param_hint="--picture"
        )
    if not picture.parent.is_dir():
        raise typer.BadParameter(f"expected the folder of {one_line(str(picture))} to exist", param_hint="--picture")


def _draw(paths: "list[EvidencePath]", title: str, picture: Path) -> None:
    from kg.drawing import draw_html, draw_png, draw_svg

    suffix = picture.suffix.lower()
    if suffix == ".png":
        picture.write_bytes(draw_png(paths, title))
    else:
        picture.write_text((draw_svg if suffix == ".svg" else draw_html)(paths, title), encoding="utf-8")


def _open(path: Path | None) -> "KnowledgeGraph":
    import kg

    return kg.load_default() if path is None else kg.read(path)


def _read_text(argument: str) -> str:
    if argument == "-":
        return sys.stdin.read()
    path = Path(argument)
    if len(argument) >= _LONGEST_NAME or "\n" in argument:
        return argument
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    if _LOOKS_LIKE_A_FILE.fullmatch(argument):
        raise typer.BadParameter(
            f"found no file {one_line(argument)!r} (text may come from standard input: give - instead)",
            param_hint="TEXT",
        )
    return argument


def _resolve(graph: "KnowledgeGraph", text: str) -> str:
    """A CURIE of the graph as it is, else the concept of that name."""
    from kg.text.linker import linker_for

    if text in graph:
        return graph.id(graph.index(text))
    found = linker_for(graph).lookup(text)
    if found is None:
        raise typer.BadParameter(f"no concept has the id or name {one_line(text)!r}")
    return found


def _facts(graph: "KnowledgeGraph") -> dict[str, Any]:
    arrays = graph.arrays

    def counted(codes: Any, names: tuple[str, ...]) -> dict[str, int]:
        return {names[code]: number for code, number in Counter(codes.tolist()).most_common()}

    origins = tuple(source.name for source in graph.sources)
    relations = counted(arrays["relation_source"], origins)
    synonyms = counted(arrays["synonym_source"], origins)
    per_concept = arrays["synonym_indptr"][1:] - arrays["synonym_indptr"][:-1]
    kinds = arrays["kind"].repeat(per_concept)
    return {
        "hash": graph.hash,
        "n_concepts": graph.n_concepts,
        "n_relations": graph.n_relations,
        "concepts": counted(arrays["kind"], graph.kinds),
        "synonyms": counted(kinds, graph.kinds),
        "relations": counted(arrays["predicate"], graph.predicates),
        "sources": [
            {
                "name": source.name,
                "version": source.version,
                "licence": source.licence,
                "trust": source.trust,
                "citation": source.citation,
                "relations": relations.get(source.name, 0),
                "synonyms": synonyms.get(source.name, 0),
            }
            for source in graph.sources
        ],
        "left out or repaired": dict(graph.defects),
    }


def _sentence(path: "EvidencePath") -> str:
    claims = [
        f"{hop.subject_name} {hop.predicate.partition(':')[2].replace('_', ' ')} {hop.object_name} [{hop.source}]"
        for hop in path.hops
    ]
    return one_line("; ".join(claims))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
