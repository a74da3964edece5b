"""`python -m pipelines.recipes.kg_pretraining --out DIR`: pretrain, print the measures, keep weights and embeddings."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

app = typer.Typer(help=__doc__)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder for the weights and the embeddings.")],
    layer: Annotated[Literal["gat", "gatv2", "distmult"], typer.Option(help="Attention layer; or none.")] = "gatv2",
    steps: Annotated[int, typer.Option(min=1)] = 300,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Pretrain on the default graph."""
    from kg import load_default
    from pipelines.recipes.kg_pretraining.keeping import keep
    from pipelines.recipes.kg_pretraining.training import PretrainSettings, pretrain

    graph = load_default()
    result = pretrain(graph, PretrainSettings(layer=layer, steps=steps, seed=seed))
    if layer != "distmult":  # the yardstick has no layers that the model could take over
        keep(result, graph, out)
    console = Console()
    console.print(f"loss {result.losses[0]:.3f} -> {sum(result.losses[-20:]) / len(result.losses[-20:]):.3f}")
    console.print(f"{layer:>10}", {name: round(value, 4) for name, value in result.test.items()})
    console.print("popularity", {name: round(value, 4) for name, value in result.popularity.items()})


if __name__ == "__main__":
    app()
