"""A DICOM storage node: takes studies by C-STORE, and hands each on when nothing more of it comes.

Objects arrive in `incoming/`; when a study has been quiet for a while, its folder moves to `studies/` by one rename, so
that whoever watches `studies/` sees whole studies only. Names are opaque; what an object says of itself is read by the
strict walk of `medmm.dicom`, never by a lenient parser. Needs the extra `receive` (pynetdicom).
"""

import errno
import hashlib
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from medmm.dicom import tags
from medmm.dicom.limits import DEFAULT_LIMITS, Limits
from medmm.dicom.source import NotDicomError, read_header
from medmm.errors import InputError, StopRun, UsageError
from medmm.identity import load_key, opaque_id
from medmm.report.files import write_atomic

if TYPE_CHECKING:
    from pynetdicom.events import Event

logger = logging.getLogger(__name__)

INCOMING, STUDIES, ARRIVING = "incoming", "studies", ".arriving"
LOOPBACK = "127.0.0.1"
# Status codes of C-STORE, PS3.4 table B.2-1.
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files of a TLS node: its certificate and key, and the authority that callers must have a certificate from."""

    certificate: Path
    key: Path
    authority: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Where and for whom to listen. `port` 0 takes a free one; `callers` are the AE titles let in, all if empty."""

    folder: Path
    ae_title: str = "MEDMM"
    host: str = LOOPBACK
    port: int = 11112
    callers: tuple[str, ...] = ()
    max_associations: int = 10
    idle_s: float = 60.0
    object_bytes: int = 4 * 2**30
    quiet_s: float = 30.0
    tls: Tls | None = None
    id_key: Path | None = None
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where results are sent to."""

    host: str
    port: int
    ae_title: str = "ANY-SCP"
    own_title: str = "MEDMM"
    tls: Tls | None = None


@dataclass(slots=True)
class Arrivals:
    """Which studies still come in. Objects are added from many threads; `complete` moves the quiet ones on."""

    folder: Path
    quiet_s: float
    clock: Callable[[], float] = time.monotonic
    _last: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for place in (self.folder / INCOMING / ARRIVING, self.folder / STUDIES):
            place.mkdir(parents=True, exist_ok=True)
        for path in (self.folder / INCOMING / ARRIVING).iterdir():
            path.unlink()  # of a node that died; the sender was never told that it is stored
        for path in (self.folder / INCOMING).iterdir():
            if path.name != ARRIVING:
                self._last[path.name] = self.clock()

    @property
    def arriving(self) -> Path:
        """Where an object is written before it is known to which study it belongs."""
        return self.folder / INCOMING / ARRIVING

    def add(self, path: Path, study: str, name: str) -> None:
        """Move an object that is on the disk whole to its study, which is not quiet from now on."""
        with self._lock:
            place = self.folder / INCOMING / study
            place.mkdir(exist_ok=True)
            path.replace(place / name)
            self._last[study] = self.clock()

    def complete(self) -> tuple[Path, ...]:
        """Move every quiet study to `studies/` and return where it lies now; late objects join their study there."""
        with self._lock:
            now = self.clock()
            quiet = sorted(study for study, last in self._last.items() if now - last >= self.quiet_s)
            return tuple(self._move(study) for study in quiet)

    def _move(self, study: str) -> Path:
        source, target = self.folder / INCOMING / study, self.folder / STUDIES / study
        if target.exists():
            for path in source.iterdir():
                path.replace(target / path.name)
            source.rmdir()
        else:
            source.replace(target)
        del self._last[study]
        return target


class StorageNode:
    """A listening node. Use as a context manager; call `poll` now and then to move on what is complete."""

    def __init__(self, config: NodeConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.refused = 0
        self.stored = 0
        self._clock = clock
        self._server: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._key = load_key(self.config.id_key)
        try:
            self.arrivals = Arrivals(self.config.folder, self.config.quiet_s, self._clock)
            write_atomic(self.arrivals.arriving / ".write-test", b"medmm\n").unlink()
        except OSError as error:
            raise UsageError(
                f"The folder for received studies cannot be written ({error.strerror}).",
                code="config.output",
                remedy="Choose another with --out, or change its permissions.",
            ) from None
        self._server = _listen(self.config, self._store)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.ae.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.server_address[1])

    def poll(self) -> tuple[Path, ...]:
        """Return the folders of studies that have become complete since the last call."""
        return self.arrivals.complete()

    def _store(self, event: "Event") -> int:
        """Put one object away; the sender hears success only when it is on the disk."""
        status = self._take(event)
        with self._lock:
            if status == SUCCESS:
                self.stored += 1
            else:
                self.refused += 1
        return status

    def _take(self, event: "Event") -> int:
        content = event.encoded_dataset()
        if len(content) > self.config.object_bytes:
            return OUT_OF_RESOURCES
        path = self.arrivals.arriving / uuid4().hex
        try:
            write_atomic(path, content)
            request: Any = event.request
            status, study, uid = self._identify(path, str(request.AffectedSOPInstanceUID))
            if status == SUCCESS:
                digest = hashlib.sha256(content).hexdigest()
                self.arrivals.add(path, study, f"{opaque_id('instance', self._key, uid, digest)}.dcm")
        except (StopRun, OSError) as error:
            logger.warning("An object could not be stored (%s).", getattr(error, "code", None) or "io.write")
            status = OUT_OF_RESOURCES
        finally:
            path.unlink(missing_ok=True)
        return status

    def _identify(self, path: Path, announced_uid: str) -> tuple[int, str, str]:  # status, study folder, SOP UID
        try:
            dataset = read_header(path, self.config.limits).dataset
        except (InputError, NotDicomError):
            return CANNOT_UNDERSTAND, "", ""
        study, uid = dataset.text(tags.STUDY_UID), dataset.text(tags.SOP_INSTANCE_UID)
        if not study or not uid:
            return CANNOT_UNDERSTAND, "", ""
        if uid != announced_uid:
            return DOES_NOT_MATCH, "", ""
        return SUCCESS, opaque_id("study", self._key, study), uid


def send(files: Iterable[Path], to: Destination) -> tuple[Path, ...]:
    """Send DICOM files by C-STORE and return those that the other side did not take.

    Raises:
        UsageError: `config.key` where the other side cannot be reached or refuses the association.
    """
    import pydicom
    from pynetdicom import AE

    paths = tuple(files)
    application = AE(ae_title=to.own_title)
    datasets = [(path, pydicom.dcmread(path)) for path in paths]
    for kind in sorted({(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for _, one in datasets}):
        application.add_requested_context(*kind)
    if not datasets:
        return ()
    secure = (_client_tls(to.tls), to.host) if to.tls else None
    association = application.associate(to.host, to.port, ae_title=to.ae_title, tls_args=secure)
    if not association.is_established:
        raise UsageError(
            "The DICOM node to send to cannot be reached or refuses this AE title.",
            code="config.key",
            remedy="Check host, port and AE titles on both sides.",
        )
    try:
        return tuple(path for path, dataset in datasets if not _is_taken(association, dataset))
    finally:
        association.release()


def _is_taken(association: Any, dataset: Any) -> bool:
    try:
        status = association.send_c_store(dataset)
    except (ValueError, RuntimeError):  # no accepted context for this kind, or the association is gone
        return False
    return "Status" in status and status.Status == SUCCESS


def _listen(config: NodeConfig, store: Callable[["Event"], int]) -> Any:
    """Return a running server of pynetdicom."""
    try:
        from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import
    except ImportError:
        raise UsageError(
            "Receiving DICOM needs the package pynetdicom (it is not installed).",
            code="config.key",
            remedy="pip install 'medmm[receive]'",
        ) from None
    application = AE(ae_title=config.ae_title)
    for context in AllStoragePresentationContexts:
        application.add_supported_context(str(context.abstract_syntax), list(ALL_TRANSFER_SYNTAXES))
    application.add_supported_context(Verification)
    application.require_called_aet = True
    application.require_calling_aet = list(config.callers)
    application.maximum_associations = config.max_associations
    application.acse_timeout = application.dimse_timeout = application.network_timeout = config.idle_s
    try:
        return application.start_server(
            (config.host, config.port),
            block=False,
            ssl_context=_server_tls(config.tls) if config.tls else None,
            evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_C_ECHO, _echo)],
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "bad address"
        in_use = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"The node cannot listen on port {config.port} ({reason}).",
            code="config.key",
            remedy="Another program uses it; choose another --port." if in_use else "Check --bind and --port.",
        ) from None


def _echo(event: "Event") -> int:
    return SUCCESS


def _server_tls(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return _load(context, tls, is_server=True)


def _client_tls(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nodes are known by their certificates; DICOM names no host (PS3.15 B.12)
    return _load(context, tls, is_server=False)


def _load(context: ssl.SSLContext, tls: Tls, *, is_server: bool) -> ssl.SSLContext:
    """Set up TLS 1.2 or newer; with an authority both sides must have a certificate from it.

    Raises:
        UsageError: `config.key` where the files cannot be used.
    """
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


def dicom_results(output: Path, sent: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return the DICOM objects among the results of a batch that are not in `sent`."""
    known = frozenset(sent)
    return tuple(path for path in sorted((output / "cases").glob("*/**/*.dcm")) if path not in known)
