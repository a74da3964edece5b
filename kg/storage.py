"""One graph, one file: a JSON header and raw columns, memory-mapped when read, checksummed, never pickled.

Layout: magic (8 bytes), header length (8 bytes, little endian), SHA-256 of all that follows (32 bytes), header (JSON),
padding, columns each at a multiple of 64 bytes. Written under a temporary name, flushed, then renamed.
"""

import hashlib
import json
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kg.errors import GraphError, SourceError
from kg.graph import GraphHeader, KnowledgeGraph

MAGIC = b"MEDMMKG1"
FORMAT_VERSION = 1
_ALIGNMENT = 64
_PREFIX = len(MAGIC) + 8 + 32
_ALLOWED_DTYPES = frozenset({"|u1", "|i1", "<i4", "<i8", "<f4"})


def write(graph: KnowledgeGraph, path: str | os.PathLike[str]) -> Path:
    """Write a graph; the file appears whole or not at all.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, dict[str, Any]] = {}
    offset = 0
    for name in sorted(graph.arrays):
        array = graph.arrays[name]
        columns[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "offset": offset}
        offset += _padded(array.nbytes)
    header = json.dumps(
        {
            "format": FORMAT_VERSION,
            "content_hash": graph.hash,
            "size": offset,
            "columns": columns,
            "graph": graph.header.to_dict(),
        },
        sort_keys=True,
    ).encode()
    header += b" " * (_padded(_PREFIX + len(header)) - _PREFIX - len(header))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            _write_body(stream, header, graph)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _write_body(stream: BinaryIO, header: bytes, graph: KnowledgeGraph) -> None:
    digest = hashlib.sha256(header)
    stream.write(MAGIC + len(header).to_bytes(8, "little") + bytes(32) + header)
    for name in sorted(graph.arrays):
        array = np.ascontiguousarray(graph.arrays[name])
        for block in (array.data.cast("B") if array.size else b"", bytes(_padded(array.nbytes) - array.nbytes)):
            stream.write(block)
            digest.update(block)
    stream.seek(len(MAGIC) + 8)
    stream.write(digest.digest())


def read(path: str | os.PathLike[str], *, is_verified: bool = True) -> KnowledgeGraph:
    """Read a graph file. Columns stay on disk until touched.

    Args:
        path: A file that `write` made.
        is_verified: Check the whole file against its checksum first (about 0.05 s for the default graph).
    Raises:
        SourceError: If the file is missing or cannot be opened.
        GraphError: `kg.version` if it is not a graph file of this version, is cut, or fails its checksum.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            header, start = _read_header(stream, path)
            if is_verified:
                _verify(stream, path)
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise SourceError(f"Expected a graph file at {path.name} ({error.strerror}).") from error
    if len(mapped) != start + header["size"]:
        raise _damaged(path, "its length does not fit its header")
    arrays = {name: _column(mapped, start, column, path) for name, column in header["columns"].items()}
    return KnowledgeGraph(
        arrays=arrays, header=GraphHeader.from_dict(header["graph"]), content_hash=header["content_hash"]
    )


def _read_header(stream: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    prefix = stream.read(_PREFIX)
    if len(prefix) < _PREFIX or not prefix.startswith(MAGIC):
        raise GraphError(f"Expected a medmm graph file (got something else in {path.name}).", remedy="Rebuild it.")
    length = int.from_bytes(prefix[len(MAGIC) : len(MAGIC) + 8], "little")
    if length > path.stat().st_size:
        raise _damaged(path, "its header is cut")
    try:
        header = json.loads(stream.read(length))
    except ValueError as error:
        raise _damaged(path, "its header is not readable") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT_VERSION:
        raise GraphError(
            f"Expected graph file format {FORMAT_VERSION} in {path.name}.", remedy="Rebuild it with this version."
        )
    return header, _PREFIX + length


def _verify(stream: BinaryIO, path: Path) -> None:
    stream.seek(len(MAGIC) + 8)
    expected = stream.read(32)
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    if digest.digest() != expected:
        raise _damaged(path, "its checksum does not match")


def _column(mapped: mmap.mmap, start: int, column: dict[str, Any], path: Path) -> np.ndarray:
    if column["dtype"] not in _ALLOWED_DTYPES:
        raise _damaged(path, "a column has an unknown type")
    shape, dtype = tuple(column["shape"]), np.dtype(column["dtype"])
    count = int(np.prod(shape))
    offset = start + column["offset"]
    if offset + count * dtype.itemsize > len(mapped):
        raise _damaged(path, "a column is cut")
    return np.frombuffer(mapped, dtype=dtype, count=count, offset=offset).reshape(shape)


def _damaged(path: Path, reason: str) -> GraphError:
    return GraphError(f"Expected a whole graph file in {path.name} ({reason}).", remedy="Delete it and rebuild.")


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
