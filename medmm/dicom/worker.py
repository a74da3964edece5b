"""The child process that parses and decodes files. It may die at any moment; nobody but its own file pays for it.

Requests come over a socket as length + JSON, with the descriptor of the volume's shared memory when pixels are to be
written. There is one reply for each file, in order, so that the parent knows which files a death may belong to.
"""

import array
import contextlib
import gc
import importlib
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medmm.dicom.limits import Limits
from medmm.errors import InputError

_HEADER_BYTES = 8
GROUP = 32  # replies in one message at most
_PATIENCE_S = 0.05


def send(channel: socket.socket, message: Any, descriptor: int | None = None) -> None:
    """Send one message; a descriptor travels with its first bytes."""
    payload = json.dumps(message, separators=(",", ":")).encode("ascii")
    head = len(payload).to_bytes(_HEADER_BYTES, "little")
    if descriptor is None:
        channel.sendall(head + payload)
        return
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    channel.sendmsg([head], rights)
    channel.sendall(payload)


def receive(channel: socket.socket) -> tuple[Any, int | None]:
    """Return one message and the descriptor that came with it.

    Raises:
        EOFError: The other side is gone.
    """
    head, descriptors, _, _ = socket.recv_fds(channel, _HEADER_BYTES, 1)
    head += _exactly(channel, _HEADER_BYTES - len(head)) if head else b""
    if not head:
        raise EOFError
    return json.loads(_exactly(channel, int.from_bytes(head, "little"))), descriptors[0] if descriptors else None


def _exactly(channel: socket.socket, count: int) -> bytes:
    pieces = []
    while count:
        piece = channel.recv(min(count, 2**20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def main(descriptor: int) -> None:
    """Serve requests until the parent closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    channel = socket.socket(fileno=descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _import_readers()
    gc.disable()  # headers make many objects and no cycles; workers are renewed after some thousand files
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request, memory = receive(channel)
            send(channel, "accepted")  # from here on a death belongs to the file in hand
            _reply(channel, _serve(request, memory))


def _import_readers() -> None:
    """Load what the first file needs before its clock runs."""
    for name in ("numpy", "medmm.dicom.codec", "medmm.dicom.fill", "medmm.dicom.header"):
        importlib.import_module(name)


def _reply(channel: socket.socket, replies: Iterator[Any]) -> None:
    """Send replies in groups when they come fast and at once when they are slow: the parent's clock runs on them."""
    group: list[Any] = []
    sent = time.monotonic()
    for reply in replies:
        group.append(reply)
        if len(group) >= GROUP or time.monotonic() - sent > _PATIENCE_S:
            send(channel, group)
            group, sent = [], time.monotonic()
    if group:
        send(channel, group)


def _serve(request: dict[str, Any], memory: int | None) -> Iterator[Any]:
    limits = Limits(**request["limits"])
    _cap_memory(limits.memory_bytes + request.get("buffer_bytes", 0))
    if request["do"] == "examine":
        yield from _examine(request["paths"], limits)
    elif memory is not None and request["do"] == "fill":
        yield from _fill(request, memory, limits)
    elif memory is not None and request["do"] == "image":
        yield from _image(request, memory, limits)


def _cap_memory(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def _examine(paths: list[str], limits: Limits) -> Iterator[Any]:
    from medmm.dicom.codec import Encoder
    from medmm.dicom.header import FileFacts, examine
    from medmm.dicom.types import Skipped

    encoder = Encoder()
    for name in paths:
        with _time_cap(limits.seconds):
            try:
                fact = examine(Path(name), limits)
            except MemoryError:
                reason = "The memory cap was reached while its header was read."
                fact = FileFacts(skipped=Skipped(Path(name), reason, "limit.memory"))
        yield encoder.facts(fact)


def _fill(request: dict[str, Any], memory: int, limits: Limits) -> Iterator[Any]:
    """Write slices into the shared volume; one reply a file, [range of values, failure]."""
    import numpy as np

    from medmm.dicom.codec import Decoder
    from medmm.dicom.fill import Scratch, fill_from_file

    decoder, scratch = Decoder(), Scratch()
    shared = mmap.mmap(memory, request["buffer_bytes"])  # closed with the last array over it
    os.close(memory)
    buffer = np.frombuffer(shared, dtype=np.float32).reshape(request["shape"])
    view = buffer[tuple(slice(None, None, -1 if flip else 1) for flip in request["flips"])]
    failure: list[str] | None = None
    for name, plain, targets in request["files"]:
        if failure is not None:  # the series is lost; the files behind it need not be read
            yield [None, failure]
            continue
        values: tuple[float, float] | None = None
        with _time_cap(limits.seconds):
            try:
                instance = decoder.instance(plain, Path(name))
                places = [(instance.frames[n], view[place]) for n, place in targets]
                values = fill_from_file(instance, places, limits, scratch)
            except InputError as error:
                failure = [error.code, error.message, error.remedy]
            except MemoryError:
                failure = ["limit.memory", "The memory cap was reached while its pixels were read.", ""]
        yield [values, failure]


def _image(request: dict[str, Any], memory: int, limits: Limits) -> Iterator[Any]:
    """Read a NIfTI file or a picture into shared memory of the size that it turns out to need."""
    from medmm.images import read_image_here

    for name in request["paths"]:
        values: list[Any] | None = None
        failure: list[str] | None = None
        with _time_cap(limits.seconds):
            try:
                volume = read_image_here(Path(name), request["modality"], limits)
                os.ftruncate(memory, volume.voxels.nbytes)
                with mmap.mmap(memory, volume.voxels.nbytes) as shared:
                    shared.write(volume.voxels.tobytes())
                notes = [[note.code, note.message] for note in volume.notes]
                values = [volume.voxels.shape, volume.affine_ras.tolist(), volume.unit, notes]
            except InputError as error:
                failure = [error.code, error.message, error.remedy]
            except MemoryError:
                failure = ["limit.memory", "The memory cap was reached while the image was read.", ""]
        os.close(memory)
        yield [values, failure]


@contextlib.contextmanager
def _time_cap(seconds: float) -> Iterator[None]:
    """Let the system end this process if the file takes longer; the parent's own clock is a little faster."""
    signal.setitimer(signal.ITIMER_REAL, seconds + 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
