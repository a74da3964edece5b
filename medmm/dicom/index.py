"""The header index: what files were at the last run, so that only new or changed ones are read again.

A text file, one block of files a line: checksum, then JSON. A torn, foreign or older line is as if it were not there.
An entry counts only while size, both time stamps and inode are the same. Written beside its place and renamed.
"""

import contextlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from medmm.dicom.codec import Decoder, Encoder
from medmm.dicom.examine import examine_all
from medmm.dicom.header import FileFacts
from medmm.dicom.limits import Limits

FORMAT = 3
_BLOCK = 256
_SETTLED_S = 0.05  # a file changed twice within the clock's tick would look unchanged


class HeaderIndex:
    """Open for one run: `examine` yields facts from the index or from the files, and the file is renewed at exit."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self._known: dict[str, tuple[list[int], FileFacts]] = {}
        self._stamp = json.dumps([FORMAT, sorted(asdict(limits).items())])
        self._output: Any = None
        self._block: list[tuple[str, list[int], FileFacts]] = []

    def __enter__(self) -> "HeaderIndex":
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            for line in file:
                self._read_block(line)
        descriptor, name = tempfile.mkstemp(prefix=self.path.name, dir=self.path.parent)  # mode 0600
        self._output = os.fdopen(descriptor, "wb")
        self._temporary = Path(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write_block()
            self._output.flush()
            os.fsync(self._output.fileno())
        self._output.close()
        if kind is None:
            self._temporary.replace(self.path)
        else:
            self._temporary.unlink(missing_ok=True)

    def examine(self, paths: Iterable[Path], workers: int | None) -> Iterator[tuple[Path, FileFacts]]:
        """Yield every path with its facts, known ones first within each portion of the walk."""
        unknown: dict[Path, list[int] | None] = {}

        def fresh() -> Iterator[Path]:
            for path in paths:
                mark = _mark(path)
                entry = self._known.get(os.fspath(path))
                if mark is not None and entry is not None and entry[0] == mark:
                    ready.append((path, entry[1]))
                    self._remember(path, mark, entry[1])
                else:
                    unknown[path] = mark
                    yield path

        ready: list[tuple[Path, FileFacts]] = []
        for path, fact in examine_all(fresh(), workers, self.limits):
            mark = unknown.pop(path)
            if mark is not None and mark == _mark(path) and time.time_ns() - mark[3] > _SETTLED_S * 1e9:
                self._remember(path, mark, fact)
            yield path, fact
            while ready:
                yield ready.pop(0)
        yield from ready

    def _remember(self, path: Path, mark: list[int], fact: FileFacts) -> None:
        self._block.append((os.fspath(path), mark, fact))
        if len(self._block) >= _BLOCK:
            self._write_block()

    def _write_block(self) -> None:
        if not self._block:
            return
        encoder = Encoder()
        plain = [[name, mark, encoder.facts(fact)] for name, mark, fact in self._block]
        body = json.dumps([self._stamp, plain], separators=(",", ":")).encode("ascii")
        self._output.write(b"%08x %s\n" % (zlib.crc32(body), body))
        self._block.clear()

    def _read_block(self, line: bytes) -> None:
        """Take in one line; anything that is not exactly what this version writes is left out."""
        try:
            checksum, body = line.rstrip(b"\n").split(b" ", 1)
            if int(checksum, 16) != zlib.crc32(body):
                return
            stamp, plain = json.loads(body)
            if stamp != self._stamp:
                return
            decoder = Decoder()
            entries = {name: (mark, decoder.facts(fact, Path(name))) for name, mark, fact in plain}
        except (ValueError, TypeError, KeyError, IndexError):
            return
        self._known.update(entries)


def _mark(path: Path) -> list[int] | None:
    """What changes when a file does; None when it cannot be asked."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]
