"""A DICOM storage node: takes studies by C-STORE, and hands each on when nothing more of it comes.

Objects arrive in `incoming/`; when a study has been quiet for a while, its folder moves to `studies/` by one rename, so
that whoever watches `studies/` sees whole studies only. Names are opaque; what an object says of itself is read by the
strict walk of `medmm.dicom`, never by a lenient parser. Needs the extra `receive` (pynetdicom).
"""

import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
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
from pipelines.dicom_network import Connections, Tls, quiet_library, server_tls

if TYPE_CHECKING:
    from pynetdicom.events import Event

logger = logging.getLogger(__name__)

INCOMING, STUDIES, ARRIVING = "incoming", "studies", ".arriving"
LOOPBACK = "127.0.0.1"
# Status codes of C-STORE, PS3.4 table B.2-1.
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000


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
        self._connections = Connections()
        self._server = _listen(self.config, self._store, self._connections)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.ae.shutdown()
        self._server.server_close()
        self._connections.close()

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


def _listen(config: NodeConfig, store: Callable[["Event"], int], connections: Connections) -> Any:
    """Return a running server of pynetdicom."""
    quiet_library()
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import

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
            ssl_context=server_tls(config.tls) if config.tls else None,
            evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_C_ECHO, _echo), *connections.handlers()],
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
