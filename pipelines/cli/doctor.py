"""`medmm doctor`: is this installation complete, and what will it run on."""

import typer

from pipelines.cli.tables import show_table


def doctor() -> None:
    """Check the installation: versions, devices, decoders, models, the knowledge graph's cache, the id key.

    Exit codes: 0 all well, 1 something is missing.
    """
    from pipelines.doctor import examine_installation

    findings = examine_installation()
    rows = [("ok" if finding.is_well else "!!", finding.what, finding.found) for finding in findings]
    show_table(("", "what", "found"), rows, whole=("",))
    raise typer.Exit(0 if all(finding.is_well for finding in findings) else 1)
