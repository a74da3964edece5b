"""`medmm kg`: look into the knowledge graph, build one, link text, rank diagnoses, follow evidence, export, embed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.cli.console import one_line, stderr, stdout
from pipelines.cli.kg_facts import facts_of
from pipelines.cli.kg_inputs import open_graph, read_text, resolve_concept, split_sources, writing_to
from pipelines.cli.tables import show_table

if TYPE_CHECKING:
    from kg import EvidencePath, Mention
    from pipelines.recipes.kg_pretraining.training import Check

DEFAULT_SOURCES = "dicom,hpo,icd10cm,pathology,radiology"

app = typer.Typer(no_args_is_help=True, help="Look into the medical knowledge graph, build one, and use it on text.")

Graph = Annotated[
    Path | None,
    typer.Option("--graph", metavar="FILE", help="A file made by `medmm kg build`; default: the built-in one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every field.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="The text, a text file, or - for standard input.")]


@app.command("info", short_help="What the graph holds, by kind, relation and source.")
def info(graph: Graph = None, as_json: AsJson = False) -> None:
    """Say what the graph holds, by kind, relation and source, and what was left out."""
    found = open_graph(graph)
    facts = facts_of(found)
    if as_json:
        _print_json(facts)
        return
    stdout().print(f"{found.n_concepts:,} concepts, {found.n_relations:,} relations, graph {found.hash[:16]}")
    for title in ("concepts", "synonyms", "relations"):
        _show_counts(title, facts[title])
    typer.echo()
    rows = [
        (
            source["name"],
            source["version"],
            f"{source['relations']:,}",
            f"{source['synonyms']:,}",
            f"{source['trust']:.2f}",
            source["licence"],
        )
        for source in facts["sources"]
    ]
    header = ("source", "version", "relations", "synonyms", "trust", "licence")
    show_table(header, rows, whole=("source",), right=("relations", "synonyms", "trust"))
    if facts["left out or repaired"]:
        _show_counts("left out or repaired", facts["left out or repaired"])


def _show_counts(title: str, counts: dict[str, int]) -> None:
    typer.echo()
    show_table((title, "number"), [(name, f"{number:,}") for name, number in counts.items()], right=("number",))


@app.command("build", short_help="Build a graph from installed sources and files.")
def build(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The graph file to write, such as clinic.kg.")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="LIST",
            help="Installed sources and knowledge files, joined by commas or given one by one.",
            show_default=DEFAULT_SOURCES,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build a graph from installed sources and knowledge files, and write it to one file.

    Installed: dicom, hpo, icd10cm, pathology, radiology; with the extra `mondo` also mondo and uberon. Files are
    recognised by name: *concepts.csv (your own), .obo, .json, .owl, nodes.tsv (KGX), kg.csv (PrimeKG), hetionet*,
    .sssom.tsv, and a folder with UMLS RRF files. See docs/knowledge-graph.md.

    \b
    Example:
      medmm kg build --source hpo,radiology,clinic_concepts.csv --out clinic.kg
      medmm kg info --graph clinic.kg
    """
    import kg

    built = kg.build(split_sources([DEFAULT_SOURCES] if source is None else source))
    with writing_to(out):
        kg.write(built, out)
    if as_json:
        _print_json(facts_of(built))
        return
    stdout().print(
        f"{built.n_concepts:,} concepts and {built.n_relations:,} relations written, graph {built.hash[:16]}"
    )
    if built.defects:
        stderr().print("Left out or repaired:")
    for reason, number in built.defects.items():
        stderr().print(f"  {number:,} {one_line(reason)}", soft_wrap=True)


@app.command("link", short_help="Find the concepts that a report names.")
def link(text: Text, graph: Graph = None, as_json: AsJson = False) -> None:
    """Find the concepts that a report names, and what it says about each.

    \b
    Example:
      medmm kg link "Ring-enhancing lesion. No hemorrhage."
      medmm kg link report.txt
      cat report.txt | medmm kg link - | grep absent
    """
    import kg

    content, found = read_text(text), open_graph(graph)
    mentions = kg.link(content, found)
    if as_json:
        names = ((found.name(at), found.kind(at)) for at in (found.index(one.concept) for one in mentions))
        _print_json(
            [asdict(one) | {"name": name, "kind": kind} for one, (name, kind) in zip(mentions, names, strict=True)]
        )
        return
    if not mentions:
        stderr().print("No concept of the graph is named in this text.")
        return
    rows = [
        (one.text, one.concept, found.name(at := found.index(one.concept)), found.kind(at), _said(one), one.method)
        for one in mentions
    ]
    show_table(("text", "concept", "name", "kind", "said", "by"), rows, whole=("concept",))


def _said(mention: "Mention") -> str:
    """What the text says of a concept: its status, and what is out of the ordinary."""
    unusual = ["of another person"] * (mention.experiencer == "other")
    unusual += [mention.temporality] * (mention.temporality != "recent")
    return ", ".join([mention.status, *unusual])


@app.command("rank", short_help="Rank the diagnoses that a report speaks for.")
def rank(
    text: Text,
    graph: Graph = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, max=1000, help="Most diagnoses shown.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Rank the diagnoses that a report speaks for, each with the claims that support it.

    A score orders the diagnoses of one text; it is no probability.

    \b
    Example:
      medmm kg rank "Ring-enhancing lesion with restricted diffusion." --top 3
    """
    import kg

    content, found = read_text(text), open_graph(graph)
    ranked = kg.rank(kg.link(content, found), found, top=top)
    if as_json:
        _print_json([asdict(one) for one in ranked])
        return
    if not ranked:
        stderr().print("No path: nothing in this text is evidence in the graph.")
        return
    rows = [
        (
            str(place),
            one.name,
            one.concept,
            f"{one.score:.3f}",
            _sentence(one.paths[0]) if one.paths else "further than three claims away",
        )
        for place, one in enumerate(ranked, start=1)
    ]
    header = ("place", "diagnosis", "concept", "score", "best evidence")
    show_table(header, rows, whole=("concept",), right=("place", "score"))


@app.command("path", short_help="Chains of claims from findings to a diagnosis.")
def path(
    start: Annotated[list[str], typer.Argument(metavar="NAME", help="Names or ids of findings, the diagnosis last.")],
    graph: Graph = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100, help="Most paths.")] = 5,
    hops: Annotated[int, typer.Option("--hops", metavar="N", min=1, max=6, help="Most claims a path.")] = 3,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Draw the paths into an .svg, .png or .html file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best chains of claims from findings to a diagnosis, with the source of every claim.

    \b
    Example:
      medmm kg path "Ring-enhancing lesion" Toxoplasmosis
      medmm kg path HP:0001250 "Ring enhancement" Glioblastoma --picture evidence.svg
    """
    import kg
    from medmm.report.files import write_atomic

    draw = None if picture is None else _picture_writer(picture)
    if len(start) < 2:
        raise typer.BadParameter("expected at least one finding and then the diagnosis")
    found = open_graph(graph)
    *findings, target = (resolve_concept(found, one) for one in start)
    if set(findings) == {target}:
        raise typer.BadParameter("the finding and the diagnosis are the same concept")
    paths = kg.paths(found, findings, target, limit=limit, max_hops=hops)
    if picture is not None and draw is not None:
        with writing_to(picture):
            write_atomic(picture, draw(paths, f"Evidence for {found.name(found.index(target))}"))
    if as_json:
        _print_json([asdict(one) for one in paths])
    elif paths:
        show_table(("score", "claims"), [(f"{one.score:.3f}", _sentence(one)) for one in paths], whole=("score",))
    else:
        stderr().print("No path in the graph within this many claims.")


@app.command("export", short_help="Write the graph for other tools.")
def export(
    out: Annotated[Path, typer.Option("--out", metavar="PLACE", help="A folder for KGX, a file for GraphML.")],
    kind: Annotated[Literal["kgx", "graphml"], typer.Option("--format", help="What to write.")] = "kgx",
    graph: Graph = None,
    as_json: AsJson = False,
) -> None:
    """Write the graph for other tools: KGX (tables of nodes and edges) or GraphML (Gephi, Cytoscape, yEd).

    \b
    Example:
      medmm kg export --out kgx
      medmm kg export --format graphml --out graph.graphml
    """
    from kg.export import write_graphml, write_kgx

    found = open_graph(graph)
    with writing_to(out):
        written = write_kgx(found, out) if kind == "kgx" else (write_graphml(found, out),)
    if as_json:
        counts = {"n_concepts": found.n_concepts, "n_relations": found.n_relations}
        _print_json({"graph": found.hash, "format": kind, **counts, "files": [str(one) for one in written]})
        return
    for one in written:
        stdout().print(str(one))


@app.command("embed", short_help="Learn an embedding of every concept.")
def embed(
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder for the weights and the concepts' embeddings.")
    ],
    graph: Graph = None,
    layer: Annotated[Literal["gat", "gatv2"], typer.Option("--layer", help="Attention layer.")] = "gatv2",
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Training steps.")] = 300,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of splits, weights and negatives.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a graph attention network to predict left-out relations, and keep every concept's embedding.

    On the built-in graph and one core, 300 steps take some minutes. The popularity of a concept, which needs no
    training, is measured beside it.
    """
    from pipelines.recipes.kg_pretraining.keeping import keep
    from pipelines.recipes.kg_pretraining.learners import PretrainSettings
    from pipelines.recipes.kg_pretraining.measures import measures
    from pipelines.recipes.kg_pretraining.training import pretrain

    found = open_graph(graph)
    with writing_to(out):  # before the minutes of training
        out.mkdir(parents=True, exist_ok=True)
    result = pretrain(found, PretrainSettings(layer=layer, steps=steps, seed=seed), on_check=_show_check)
    with writing_to(out):
        keep(result, found, out)
    test, popularity = measures(result.ranks), measures(result.popularity_ranks)
    if as_json:
        _print_json({"graph": found.hash, "test": test, "popularity": popularity})
        return
    scores = {layer: test, "popularity": popularity}
    rows = [(name, *(f"{value:.3f}" for value in values.values())) for name, values in scores.items()]
    show_table(("ranking of left-out relations", *test), rows, right=tuple(test))


def _show_check(check: "Check") -> None:
    stderr().print(f"step {check.step}: loss {check.loss:.3f}, validation MRR {check.validation_mrr:.3f}")


def _picture_writer(picture: Path) -> "Callable[[Sequence[EvidencePath], str], bytes]":
    """The way to draw into a file of that name.

    Raises:
        UsageError: `config.output` where the suffix names no kind of picture.
    """
    from kg.drawing import draw_html, draw_png, draw_svg
    from medmm.errors import UsageError

    suffix = picture.suffix.lower()
    if suffix == ".png":
        return draw_png
    if suffix in (".svg", ".html", ".htm"):
        draw = draw_svg if suffix == ".svg" else draw_html
        return lambda paths, title: draw(paths, title).encode()
    raise UsageError(
        f"Expected a picture named .svg, .png or .html (got {one_line(picture.name)!r}).",
        code="config.output",
        remedy="Name the file by one of these.",
    )


def _sentence(path: "EvidencePath") -> str:
    claims = [
        f"{hop.subject_name} {hop.predicate.partition(':')[2].replace('_', ' ')} {hop.object_name} [{hop.source}]"
        for hop in path.hops
    ]
    return one_line("; ".join(claims))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
