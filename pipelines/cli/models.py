"""`medmm models`: which models there are, what they say of themselves, and whether their files are whole."""

from typing import Annotated

import typer

from pipelines.cli.console import one_line, stdout
from pipelines.cli.tables import show_table

models = typer.Typer(no_args_is_help=True, help="The models there are: list, read the card, verify the files.")

Name = Annotated[str, typer.Argument(help="Name of a shipped model, or a model directory.")]


@models.command("list")
def list_models() -> None:
    """List the shipped models with what they read and answer."""
    from medmm.checkpoint import load_checkpoint
    from medmm.diagnose import find_model, shipped_models

    rows = []
    for name in shipped_models():
        model = load_checkpoint(find_model(name)).model
        reads, answers = ", ".join(model.config.modalities), ", ".join(task.title for task in model.labels.tasks)
        rows.append((name, model.config.version, reads, answers))
    if rows:
        header = ("name", "version", "reads", "answers")
        show_table(header, rows, whole=header[:2])
    else:
        stdout().print("No model comes with this installation; pass a model directory to `medmm diagnose --model`.")


@models.command("card")
def card(name: Name) -> None:
    """Print a model's card: data, licence, measured figures with intervals, limits."""
    from medmm.checkpoint import CARD
    from medmm.diagnose import find_model

    text = (find_model(name) / CARD).read_text(encoding="utf-8", errors="replace")
    stdout().print("\n".join(one_line(line) for line in text.splitlines()), soft_wrap=True)


@models.command("verify")
def verify(name: Name) -> None:
    """Check every file of a model against its SHA-256, and every tensor against the configuration."""
    from medmm.checkpoint import load_checkpoint
    from medmm.diagnose import find_model

    loaded = load_checkpoint(find_model(name))
    config = loaded.model.config
    stdout().print(f"{config.name} {config.version}: all files whole, weights {loaded.weights_sha256}", soft_wrap=True)
