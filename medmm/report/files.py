"""How report files reach the disk: safe names, and bytes that are complete or not there at all."""

import errno
import os
import re
import tempfile
from pathlib import Path

from medmm.errors import StopRun

_NAME_LIMIT = 60
# Names that Windows keeps for devices, with or without an extension.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}


def safe_name(text: str, *, taken: set[str] | None = None) -> str:
    """Return a file name stem made of letters, digits, `.`, `-` and `_` only, and add it to `taken`.

    Args:
        text: Anything, for example a role or a label of a foreign model.
        taken: Stems in use, lower case; a clash (also by case) gets a number.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:_NAME_LIMIT] or "unnamed"
    if stem.split(".")[0].lower() in _RESERVED:
        stem = f"_{stem}"
    unique, number = stem, 2
    while taken is not None and unique.lower() in taken:
        unique, number = f"{stem}-{number}", number + 1
    if taken is not None:
        taken.add(unique.lower())
    return unique


def write_atomic(path: Path, content: bytes) -> Path:
    """Write a file by a temporary name in its own folder, fsync, then rename; return its path.

    Raises:
        StopRun: `disk.full`, when there is no space; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(path, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StopRun(
                f"No space left to write {path.name} ({len(content)} bytes needed).",
                code="disk.full",
                remedy="Make space, then resume the run.",
            ) from error
        raise
    return path


def _write_and_rename(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
