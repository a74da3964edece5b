"""`medmm doctor`: is this installation complete, and what will it run on."""

import typer

from pipelines.cli.console import plain_table, stdout


def doctor() -> None:
    """Check the installation: versions, devices, decoders, models, the knowledge graph's cache, the id key.

    Exit codes: 0 all well, 1 something is missing.
    """
    from pipelines.doctor import examine_installation

    table, findings = plain_table("", "what", "found", whole=("",)), examine_installation()
    for finding in findings:
        table.add_row("ok" if finding.is_well else "!!", finding.what, finding.found)
    stdout().print(table)
    raise typer.Exit(0 if all(finding.is_well for finding in findings) else 1)
