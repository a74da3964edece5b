"""Tables on standard output: laid out on a terminal, one tab-separated line a row for other programs."""

import sys
from collections.abc import Sequence

import typer

from pipelines.cli.console import one_line, stdout


def show_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Sequence[str] = (), right: Sequence[str] = ()
) -> None:
    """Print rows under a header; nothing is ever cut.

    On a terminal long cells go on in further lines, but for the columns in `whole` (ids, which people copy): where
    those do not fit, the table is wider than the terminal. Elsewhere no line is wrapped, so that `grep`, `cut` and
    `awk -F'\\t'` work.

    Args:
        header: Name of each column.
        rows: One cell a column; control characters become spaces.
        whole: Names of the columns whose cells stay in one line.
        right: Names of the columns of numbers, aligned at their right.
    """
    cleaned = [[one_line(cell) for cell in row] for row in rows]
    console = stdout()
    if not sys.stdout.isatty() or console.is_dumb_terminal:  # whose width cannot be set
        for row in (header, *cleaned):
            typer.echo("\t".join(row))
        return
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in header:
        is_number = name in right
        table.add_column(
            name, no_wrap=is_number or name in whole, overflow="fold", justify="right" if is_number else "left"
        )
    for row in cleaned:
        table.add_row(*(Text(cell) for cell in row))
    # What no column can go below without breaking an id or a word; two spaces lie between columns.
    columns = zip(header, *cleaned, strict=True)
    longest = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    console.width = max(console.width, sum(longest) + 2 * len(longest))
    console.print(table)
