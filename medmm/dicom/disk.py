"""Bytes of a file: only regular files are opened, and a disk that fails is asked a few times before it is given up."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from medmm.errors import InputError

_ATTEMPTS = 3
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
Result = TypeVar("Result")


def open_regular(path: Path) -> int:
    """Return a descriptor of a regular file; never waits for a FIFO or a device.

    Raises:
        InputError: io.unreadable.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "bad name"
        raise _unreadable(f"the system says: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unreadable("it is a folder, a pipe or a device")
    return descriptor


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes of a file, fewer at its end.

    Raises:
        InputError: io.read.
    """
    try:
        return os.pread(descriptor, size, offset)
    except OSError:
        return _again(lambda: os.pread(descriptor, size, offset))


def read_into(descriptor: int, target: memoryview, offset: int) -> int:
    """Read bytes of a file into memory; returns how many there were.

    Raises:
        InputError: io.read.
    """
    if not hasattr(os, "preadv"):
        raw = read_at(descriptor, len(target), offset)
        target[: len(raw)] = raw
        return len(raw)
    try:
        return os.preadv(descriptor, [target], offset)
    except OSError:
        return _again(lambda: os.preadv(descriptor, [target], offset))


def _again(read: Callable[[], Result]) -> Result:
    for attempt in range(1, _ATTEMPTS):
        time.sleep(0.1 * attempt)
        try:
            return read()
        except OSError:
            continue
    raise InputError("Expected the disk to give a file's bytes (it failed).", code="io.read", remedy="Check the disk.")


def _unreadable(why: str) -> InputError:
    return InputError(
        f"Expected a readable file ({why}).", code="io.unreadable", remedy="Check the permissions and the disk."
    )
