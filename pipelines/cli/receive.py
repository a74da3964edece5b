"""`medmm receive`: a storage node until Ctrl-C."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import stderr, stdout

POLL_S = 1.0


def receive(
    out: Annotated[Path, typer.Option("--out", help="Folder for what arrives; whole studies lie in its studies/.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 11112,
    aet: Annotated[str, typer.Option("--aet", help="AE title of this node; callers must use it.")] = "MEDMM",
    bind: Annotated[str, typer.Option(help="Address to listen on; only this machine by default.")] = "127.0.0.1",
    caller: Annotated[
        list[str] | None, typer.Option(help="AE title that may send; may be repeated, all by default.")
    ] = None,
    max_associations: Annotated[int, typer.Option(min=1, max=1000, help="Connections at a time.")] = 10,
    quiet_period: Annotated[
        float, typer.Option(min=0, help="Seconds without a new object after which a study is complete.")
    ] = 30.0,
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate of this node (PEM); turns TLS on.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).")] = None,
    tls_authority: Annotated[
        Path | None, typer.Option(help="Callers must have a certificate from this authority (PEM).")
    ] = None,
    id_key: Annotated[Path | None, typer.Option(help="File with the key of the opaque folder names.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Receive studies by DICOM C-STORE and put them where the batch can watch for them.

    A study moves to OUT/studies/ when nothing more of it comes. Runs until Ctrl-C; what has arrived stays.

    \b
    Examples:
      medmm receive --out inbox/
      medmm receive --out inbox/ --bind 0.0.0.0 --aet AI01 --caller PACS \\
          --tls-certificate node.pem --tls-key node.key --tls-authority hospital.pem

    Exit codes: 2 it could not start, 130 Ctrl-C.
    """
    from pipelines.dicom_network import tls_from
    from pipelines.receive import LOOPBACK, NodeConfig, StorageNode

    tls = tls_from(tls_certificate, tls_key, tls_authority)
    console = stderr()
    if bind not in (LOOPBACK, "::1", "localhost") and tls is None:
        console.print("warning: listening beyond this machine without TLS: anybody on the way can read the images.")
    config = NodeConfig(
        folder=out,
        ae_title=aet,
        host=bind,
        port=port,
        callers=tuple(caller or ()),
        max_associations=max_associations,
        quiet_s=quiet_period,
        tls=tls,
        id_key=id_key,
    )
    results, pause = stdout(), threading.Event()
    with StorageNode(config) as node:
        if not quiet:
            console.print(f"Listening as {aet} on {bind} port {node.port}; Ctrl-C ends it.")
        while True:
            for study in node.poll():
                results.print(f"{study.name} complete")
            pause.wait(POLL_S)
