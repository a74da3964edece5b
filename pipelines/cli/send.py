"""`medmm send`: DICOM results to a PACS."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import stdout

EXIT_LEFT = 1


def send(
    results: Annotated[Path, typer.Argument(help="Output folder of `medmm diagnose --formats ...,sr,seg`.")],
    to: Annotated[str, typer.Option("--to", metavar="AET@HOST:PORT", help="The node to send to.")],
    aet: Annotated[str, typer.Option("--aet", help="AE title of this side.")] = "MEDMM",
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate of this side (PEM); turns TLS on.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).")] = None,
    tls_authority: Annotated[
        Path | None, typer.Option(help="The other side must have a certificate from this authority (PEM).")
    ] = None,
) -> None:
    """Send DICOM results by C-STORE, each once; what the other side did not take goes with the next call.

    \b
    Example:
      medmm send results/ --to PACS@10.0.0.5:104

    Exit codes: 0 everything is there, 1 some results were not taken, 2 the other side cannot be reached.
    """
    from dataclasses import replace

    from pipelines.dicom_network import tls_from
    from pipelines.send import parse_destination, send_results

    tls = tls_from(tls_certificate, tls_key, tls_authority)
    delivery = send_results(results, replace(parse_destination(to, tls), own_title=aet))
    stdout().print(f"{delivery.taken} results sent, {delivery.left} not taken.")
    if delivery.left:
        raise typer.Exit(EXIT_LEFT)
