"""Send DICOM results to a node such as a PACS, by C-STORE. Needs the extra `receive` (pynetdicom).

A file in the output folder remembers what the other side has taken, so that a result goes out once, and again when its
case was done again.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmm.errors import UsageError
from pipelines.dicom_network import Connections, Tls, client_tls, quiet_library
from pipelines.output import SENT_NAME

SUCCESS = 0x0000
# C-STORE answers that mean "stored, with remarks", PS3.4 table B.2-1.
WARNINGS = (0xB000, 0xB006, 0xB007)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where results are sent to."""

    host: str
    port: int
    ae_title: str = "ANY-SCP"
    own_title: str = "MEDMM"
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How many results the other side took, and how many it did not."""

    taken: int
    left: int


def send_results(output: Path, to: Destination) -> Delivery:
    """Send every DICOM result of a run that the destination does not have yet.

    Args:
        output: Output folder of `medmm diagnose`.
        to: Where to.
    Raises:
        UsageError: `config.key` where the other side cannot be reached or refuses the association.
    """
    known = _read_sent(output / SENT_NAME)
    due = {path: line for path in dicom_results(output) if (line := _line(path, output, to)) not in known}
    refused = frozenset(send(due, to))
    taken = [line for path, line in due.items() if path not in refused]
    if taken:
        with (output / SENT_NAME).open("a", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in taken)
    return Delivery(len(taken), len(refused))


def send(files: Iterable[Path], to: Destination) -> tuple[Path, ...]:
    """Send DICOM files by C-STORE and return those that the other side did not take.

    Raises:
        UsageError: `config.key` where the other side cannot be reached or refuses the association.
    """
    import pydicom

    paths = tuple(files)
    if not paths:
        return ()
    metas = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    kinds = sorted({(str(one.SOPClassUID), str(one.file_meta.TransferSyntaxUID)) for one in metas})
    connections = Connections()
    try:
        association = _associate(kinds, to, connections)
        try:
            return tuple(path for path in paths if not _is_taken(association, path))
        finally:
            association.release()
    finally:
        connections.close()


def _associate(kinds: Iterable[tuple[str, str]], to: Destination, connections: Connections) -> Any:
    quiet_library()
    from pynetdicom import AE

    application = AE(ae_title=to.own_title)
    for kind, syntax in kinds:
        application.add_requested_context(kind, syntax)
    association = application.associate(
        to.host,
        to.port,
        ae_title=to.ae_title,
        tls_args=(client_tls(to.tls), to.host) if to.tls else None,
        evt_handlers=connections.handlers(),
    )
    if not association.is_established:
        raise UsageError(
            "The DICOM node to send to cannot be reached or refuses this AE title.",
            code="config.key",
            remedy="Check host, port and AE titles on both sides.",
        )
    return association


def _is_taken(association: Any, path: Path) -> bool:
    import pydicom

    try:
        status = association.send_c_store(pydicom.dcmread(path))
    except (ValueError, RuntimeError):  # no accepted context for this kind, or the association is gone
        return False
    return "Status" in status and status.Status in (SUCCESS, *WARNINGS)


def parse_destination(text: str, tls: Tls | None = None) -> Destination:
    """Return `AET@host:port` as a destination.

    Raises:
        UsageError: `config.key`.
    """
    title, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (0 < len(title) <= 16 and host and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError("Expected a destination such as PACS@10.0.0.5:104.", code="config.key")
    return Destination(host=host, port=int(port), ae_title=title, tls=tls)


def dicom_results(output: Path) -> tuple[Path, ...]:
    """Return the DICOM objects among the results of a batch; cases that are being written are left out."""
    return tuple(sorted((output / "cases").glob("case-*/**/*.dcm")))


def _line(path: Path, output: Path, to: Destination) -> str:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{digest} {to.ae_title}@{to.host}:{to.port} {path.relative_to(output).as_posix()}"


def _read_sent(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except FileNotFoundError:
        return frozenset()
