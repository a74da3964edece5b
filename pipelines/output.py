"""The output folder of a run: may it be used, who uses it, and where things lie in it."""

import errno
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from medmm.errors import UsageError
from medmm.report.files import write_atomic
from pipelines.ledger import FILE_NAME

LOCK_NAME = ".lock"
SENT_NAME = "sent.txt"  # which DICOM results a PACS has taken; see `pipelines.send`
OURS = ("cases", "results.csv", "failures.csv", "index.html", "run.json", "id_map.csv", SENT_NAME, FILE_NAME)
STAGING_PREFIX = ".writing-"
# What a killed process leaves of a file that it was writing (`write_atomic`, `write_id_map`).
TORN = ".????????.tmp"


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Paths inside the folder of a run."""

    root: Path

    @property
    def ledger(self) -> Path:
        """The ledger of the run."""
        return self.root / FILE_NAME

    @property
    def cases(self) -> Path:
        """One folder per case in here."""
        return self.root / "cases"

    def case(self, case_id: str) -> Path:
        """The folder of a finished case."""
        return self.cases / case_id

    def staging(self, case_id: str) -> Path:
        """A new place where a case is written before its folder appears by one rename.

        Each call gives another: a worker that outlives its run, or was given up for lost, may write the same case.
        """
        return self.cases / f"{STAGING_PREFIX}{case_id}-{secrets.token_hex(4)}"


def check_apart(inputs: Path, output: Path) -> None:
    """Raise if one folder lies in the other.

    Raises:
        UsageError: `config.output`.
    """
    source, target = inputs.resolve(), output.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise UsageError(
            "The output folder and the input folder lie in one another.",
            code="config.output",
            remedy="Choose an output folder outside the studies (--out).",
        )


def prepare(output: Path, *, may_continue: bool, may_overwrite: bool) -> OutputFolder:
    """Return the folder, made and proven writable by a real write.

    Args:
        output: Made with its parents where missing.
        may_continue: Accept what an earlier run left (`--resume`); whether it is the same run is checked later.
        may_overwrite: Remove what an earlier run left, and nothing else (`--overwrite`).
    Raises:
        UsageError: `config.output` where it is in use, holds something else, or cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_atomic(output / ".write-test", b"medmm\n").unlink()
    except OSError as error:
        raise UsageError(
            f"The output folder cannot be written ({error.strerror}).",
            code="config.output",
            remedy="Choose another with --out, or change its permissions.",
        ) from None
    found = sorted(path.name for path in output.iterdir() if path.name != LOCK_NAME and not path.match(TORN))
    foreign = [name for name in found if name not in OURS]
    if foreign and not may_overwrite and not (may_continue and FILE_NAME in found):
        raise UsageError(
            f"The output folder holds {len(foreign)} files or folders that are not of a medmm run.",
            code="config.output",
            remedy="Choose an empty folder with --out; other files are never removed.",
        )
    if found and not (may_continue or may_overwrite):
        raise UsageError(
            "The output folder holds an earlier run.",
            code="config.output",
            remedy="Use --resume to finish it, --overwrite to replace it, or another --out.",
        )
    return OutputFolder(output)


def clear(folder: OutputFolder) -> None:
    """Remove everything an earlier run wrote, the ledger first, so that a half-cleared folder is never trusted."""
    for name in (FILE_NAME, *OURS):
        path = folder.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def clear_staging(folder: OutputFolder) -> None:
    """Remove half-written files and case folders of a run or a worker that died."""
    for path in folder.cases.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)  # its worker may still be there and remove it, too
    for path in folder.root.glob(TORN):
        path.unlink()


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds an output folder. Process ids come again, so its start (seconds since the epoch) counts."""

    host: str
    pid: int
    started: float | None

    @classmethod
    def here(cls) -> "Owner":
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _start_of(os.getpid()))

    def holds(self, folder: OutputFolder) -> bool:
        """Whether this process holds the folder now: no other does, and its run has not ended."""
        found = _read_owner(folder.root / LOCK_NAME) or {}
        return (found.get("host"), found.get("pid"), found.get("started")) == astuple(self)


@contextmanager
def locked(folder: OutputFolder) -> Iterator[None]:
    """Hold the folder for this process; a lock whose process is gone from this host is taken over.

    Raises:
        UsageError: `config.output` where another run holds it, naming its owner and how to clear a stale lock.
    """
    path = folder.root / LOCK_NAME
    with _guard(folder.root):
        owner = _read_owner(path)
        if owner is not None and not _is_gone(owner):
            raise UsageError(
                f"Another run uses the output folder (process {owner.get('pid')} on host {owner.get('host')}, "
                f"since {owner.get('since_utc')}).",
                code="config.output",
                remedy=f"Wait for it. If that process is gone for good, remove the file {LOCK_NAME} in the folder.",
            )
        write_atomic(path, json.dumps(_own_identity()).encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _guard(root: Path) -> Iterator[None]:
    """Keep processes of this host from inspecting the lock at the same time."""
    import fcntl

    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.EINVAL):
                raise
        yield
    finally:
        os.close(handle)


def _own_identity() -> dict[str, object]:
    return asdict(Owner.here()) | {"since_utc": datetime.now(UTC).isoformat(timespec="seconds")}


def _read_owner(path: Path) -> dict[str, object] | None:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_gone(owner: dict[str, object]) -> bool:
    """Whether the owner was a process of this host that no longer runs; process ids come again, so starts count too."""
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    return _start_of(pid) != owner.get("started")


def _start_of(pid: int) -> float | None:
    import psutil

    try:
        return round(psutil.Process(pid).create_time(), 2)
    except psutil.Error:
        return None
