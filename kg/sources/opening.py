"""Open a source file as text, plain or gzipped, with a cap on what it may inflate to."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kg.errors import SourceError

# A gzip file may inflate to this many times its size, beyond a floor that small files may always reach.
MAX_INFLATION = 200
MIN_INFLATED_BYTES = 64 * 1024**2


def open_text(path: Path) -> TextIO:
    """Return a text stream over a UTF-8 file; `.gz` is inflated as it is read.

    Raises:
        SourceError: If the file is missing or cannot be opened.
    """
    try:
        if path.suffix == ".gz":
            limit = max(MIN_INFLATED_BYTES, MAX_INFLATION * path.stat().st_size)
            return io.TextIOWrapper(io.BufferedReader(_Capped(path, limit)), encoding="utf-8-sig", newline="")
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise SourceError(f"Expected a readable file at {path.name} ({error.strerror}).") from error


class _Capped(io.RawIOBase):
    """A gzip stream that refuses to inflate past a limit."""

    def __init__(self, path: Path, limit: int) -> None:
        self._stream = gzip.open(path, "rb")  # noqa: SIM115 - closed with this object
        self._left = limit
        self._name = path.name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._stream.read(len(buffer))
        self._left -= len(block)
        if self._left < 0:
            raise SourceError(
                f"Expected {self._name} to inflate to at most {MAX_INFLATION} times its size (it inflates further).",
                remedy="Inflate it yourself if you trust it.",
            )
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()


def lines_of(path: Path) -> Iterator[str]:
    """Yield a file's lines without their line ends."""
    with open_text(path) as stream:
        for line in stream:
            yield line.rstrip("\r\n")
