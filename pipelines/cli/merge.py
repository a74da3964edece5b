"""`medmm merge`: the outputs of shards become one."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.summary import show_summary


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Output folders of `medmm diagnose --shard i/n`, all n of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the joined results.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Join the outputs of all shards, as if the studies had never been split.

    The tables are the same, byte for byte, as those of one run over everything. The shards' folders stay.

    \b
    Example:
      medmm merge part1/ part2/ part3/ --out results/
    """
    from pipelines.merge import merge_runs

    summary = merge_runs(parts, out, may_overwrite=overwrite)
    if not quiet:
        show_summary(summary)
    raise typer.Exit(summary.exit_code)
