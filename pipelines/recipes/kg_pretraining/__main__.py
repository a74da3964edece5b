"""`python -m pipelines.recipes.kg_pretraining train|compare`: pretrain on the default graph, and compare models."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipelines.cli.console import stdout

app = typer.Typer(help=__doc__, no_args_is_help=True)
console = stdout()


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for weights, embeddings and ranks.")],
    layer: Annotated[
        Literal["gat", "gatv2", "complex"], typer.Option(help="Attention layer; or free vectors.")
    ] = "gatv2",
    steps: Annotated[int, typer.Option(min=1)] = 300,
    seed: Annotated[int, typer.Option()] = 0,
    has_minilm: Annotated[
        bool, typer.Option("--minilm/--hashed", help="Names as MiniLM reads them (extra `minilm`), or hashed words.")
    ] = False,
) -> None:
    """Train one model, and rank the test relations with it."""
    import time

    from kg import load_default
    from pipelines.recipes.kg_pretraining.keeping import keep
    from pipelines.recipes.kg_pretraining.learners import PretrainSettings
    from pipelines.recipes.kg_pretraining.measures import measures
    from pipelines.recipes.kg_pretraining.names import minilm_names
    from pipelines.recipes.kg_pretraining.training import pretrain

    graph = load_default()
    names = minilm_names(graph) if has_minilm else None
    result = pretrain(graph, PretrainSettings(layer=layer, steps=steps, seed=seed), names=names, on_check=console.print)
    keep(result, graph, out)
    for name, ranks in ((layer, result.ranks), ("popularity", result.popularity_ranks)):
        console.print(f"{name:>10}", {key: round(value, 4) for key, value in measures(ranks).items()})
    console.print(f"{time.process_time():.0f} s of processor time, sources and evaluation included")


@app.command()
def compare(folders: Annotated[list[Path], typer.Argument(help="Folders that `train` wrote, with one seed.")]) -> None:
    """Print measures with 95% intervals over test relations, and differences to the first folder and to popularity."""
    from kg import load_default
    from pipelines.recipes.kg_pretraining.comparing import difference_rows, measure_rows, read_compared

    compared = read_compared(load_default(), folders)
    table = Table("", "relation", "n", "MRR", "Hits@1", "Hits@3", "Hits@10")
    for row in measure_rows(compared):
        table.add_row(*row)
    console.print(table)
    table = Table("difference", "relation", "MRR", "Hits@10")
    for row in difference_rows(compared):
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    app()
