"""`python -m pipelines.recipes.kg_evaluation linking|ranking|context --data FOLDER`: print the measured tables."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipelines.cli.console import stdout

app = typer.Typer(help=__doc__, no_args_is_help=True)
console = stdout()
Data = Annotated[Path, typer.Option(help="Folder with the development data (text/, kg/, medpix/).")]


@app.command()
def context(data: Data) -> None:
    """Agreement of the context rules with the NegEx development half."""
    from pipelines.recipes.kg_evaluation.linking import negex_agreement, read_tsv

    table = Table("label", "precision", "recall", "F1", "right", "wrong", "missed")
    for label, found in negex_agreement(read_tsv(data / "text/negex/negex_dev.tsv")).items():
        table.add_row(label, *(f"{x:.3f}" for x in (found.precision, found.recall, found.f1)), *_counts(found))
    console.print(table)


@app.command()
def linking(
    data: Data,
    learn: Annotated[bool, typer.Option(help="Add names of the training part.")] = False,
    mappings: Annotated[list[Path] | None, typer.Option(help="Mapping sets (.sssom.tsv) to add.")] = None,
    part: Annotated[Literal["train", "dev"], typer.Option(help="Part of the corpus to measure on.")] = "dev",
) -> None:
    """Agreement with a part of the NCBI Disease corpus, and precision on the judged MedPix links."""
    from kg import Linker, build, load_default
    from kg.sources.registry import DEFAULT_SOURCES
    from pipelines.recipes.kg_evaluation.disease_ontology import read_disease_ontology
    from pipelines.recipes.kg_evaluation.linking import (
        gold_links,
        names_from,
        ncbi_agreement,
        read_pubtator,
        read_tsv,
    )
    from pipelines.recipes.kg_evaluation.vocabulary import VocabularyMap

    folder = data / "text/ncbi_disease"
    learnt = [names_from(read_pubtator(folder / "train.pubtator.txt"))] if learn else []
    graph = build([*DEFAULT_SOURCES, read_disease_ontology(data / "kg"), *(mappings or ()), *learnt])
    documents = read_pubtator(folder / f"{part}.pubtator.txt")
    mention, document, coverage = ncbi_agreement(Linker(graph), documents, VocabularyMap(graph))
    table = Table(f"NCBI Disease, {part}", "precision", "recall", "F1", "right", "wrong", "missed")
    for name, found in (("mentions", mention), ("documents", document)):
        table.add_row(name, *(f"{x:.3f}" for x in (found.precision, found.recall, found.f1)), *_counts(found))
    console.print(table, dict(coverage))
    links = gold_links(Linker(load_default()), read_tsv(data / "kg/medpix_link_gold.tsv"))
    console.print(f"MedPix gold: {links.exact_precision:.3f} of exact spans right, {links.precision:.3f} of all linked")


@app.command()
def ranking(
    data: Data, is_embedded: Annotated[bool, typer.Option("--embed/--no-embed", help="Use MiniLM names.")] = True
) -> None:
    """Rank MedPix diagnoses with and without the graph, and with a shuffled one."""
    from kg import load_default
    from kg.controls import shuffled_graph
    from pipelines.recipes.kg_evaluation.embedder import minilm
    from pipelines.recipes.kg_evaluation.ranking import (
        DEPTHS,
        measures,
        paired_difference,
        read_task,
        true_ranks,
        view_scores,
    )

    task, graph = read_task(data / "medpix"), load_default()
    views = view_scores(graph, task, minilm() if is_embedded else None)
    views["walk, shuffled graph"] = view_scores(shuffled_graph(graph), task, None)["walk"]
    ranks = {name: true_ranks(scores, task.truth) for name, scores in views.items()}
    table = Table("view", *(f"{name} (n={mask.sum()})" for name, mask in task.subsets.items()))
    for name, one in ranks.items():
        cells = [" ".join(f"{x:.3f}" for x in measures(one[mask]).values()) for mask in task.subsets.values()]
        table.add_row(name, *cells)
    console.print("R@1 R@10 R@50 MRR", table)
    pairs = [
        ("with graph", "without graph"),
        ("with graph", "embedding"),
        ("without graph + walk", "without graph"),
        ("with graph", "with graph, no walk"),
        ("walk", "walk, shuffled graph"),
    ]
    differences = Table("difference", "subset", *(f"R@{depth}" for depth in DEPTHS))
    for first, second in pairs:
        for subset, mask in task.subsets.items():
            if first in ranks and second in ranks:
                found = [paired_difference(ranks[first][mask], ranks[second][mask], depth) for depth in DEPTHS]
                cells = [f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for one in found]
                differences.add_row(f"{first} - {second}", subset, *cells)
    console.print(differences)


def _counts(found: object) -> tuple[str, str, str]:
    return tuple(str(getattr(found, name)) for name in ("right", "wrong", "missed"))  # type: ignore[return-value]


if __name__ == "__main__":
    app()
