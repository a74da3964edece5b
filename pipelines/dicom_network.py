"""What both ends of a DICOM connection need: TLS, and sockets that are closed whatever happens."""

import contextlib
import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmm.errors import UsageError

if TYPE_CHECKING:
    import socket

    from pynetdicom.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files of a TLS node: its certificate and key, and the authority that callers must have a certificate from."""

    certificate: Path
    key: Path
    authority: Path | None = None


def tls_from(certificate: Path | None, key: Path | None, authority: Path | None) -> Tls | None:
    """Return the files given for TLS, None where none are.

    Raises:
        UsageError: `config.key` for a certificate without its key, or the reverse.
    """
    if (certificate is None) != (key is None) or (authority is not None and certificate is None):
        raise UsageError("Expected a certificate and its key together for TLS.", code="config.key")
    if certificate is None or key is None:
        return None
    return Tls(certificate=certificate, key=key, authority=authority)


def quiet_library() -> None:
    """Keep pynetdicom from logging: it names what it sends and receives.

    Raises:
        UsageError: `config.key` where it is not installed.
    """
    try:
        import pynetdicom  # noqa: F401  # only whether it is there
    except ImportError:
        raise UsageError(
            "Sending and receiving DICOM need the package pynetdicom (it is not installed).",
            code="config.key",
            remedy="pip install 'medmm[receive]'",
        ) from None
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class Connections:
    """The sockets of associations, each closed when its connection ends, the rest by `close`.

    pynetdicom shuts a socket down and then closes it; where the other side is gone already the first step fails and
    the second is left out.
    """

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._lock = threading.Lock()

    def handlers(self) -> list[Any]:
        """Event handlers for an association or a server."""
        from pynetdicom import evt

        return [(evt.EVT_CONN_OPEN, self._opened), (evt.EVT_CONN_CLOSE, self._closed)]

    def close(self) -> None:
        """Close every socket that is still open."""
        with self._lock:
            left, self._sockets = self._sockets, {}
        for one in left.values():
            one.close()

    def _opened(self, event: "Event") -> None:
        wrapper = event.assoc.dul.socket
        if wrapper is not None and wrapper.socket is not None:
            with self._lock:
                self._sockets[id(event.assoc)] = wrapper.socket

    def _closed(self, event: "Event") -> None:
        with self._lock:
            one = self._sockets.pop(id(event.assoc), None)
        if one is not None:
            one.close()


class _ClosedSocket(ssl.SSLSocket):
    """A TLS socket that is closed when it cannot be shut down, as after a handshake that failed."""

    def shutdown(self, how: int) -> None:
        try:
            super().shutdown(how)
        except OSError:
            with contextlib.suppress(OSError):
                self.close()
            raise


def server_tls(tls: Tls) -> ssl.SSLContext:
    """Return the settings of a node that listens; raises as `client_tls`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return _load(context, tls, is_server=True)


def client_tls(tls: Tls) -> ssl.SSLContext:
    """Return the settings of a caller.

    Raises:
        UsageError: `config.key` where the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nodes are known by their certificates; DICOM names no host (PS3.15 B.12)
    return _load(context, tls, is_server=False)


def _load(context: ssl.SSLContext, tls: Tls, *, is_server: bool) -> ssl.SSLContext:
    """Set up TLS 1.2 or newer; with an authority both sides must have a certificate from it.

    Raises:
        UsageError: `config.key` where the files cannot be used.
    """
    context.sslsocket_class = _ClosedSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.authority is not None:
            context.load_verify_locations(tls.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        elif not is_server:
            context.load_default_certs()
    except (OSError, ssl.SSLError):
        raise UsageError(
            "The files for TLS cannot be used.", code="config.key", remedy="Check certificate, key and authority."
        ) from None
    return context
