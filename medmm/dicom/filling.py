"""A planned volume filled by workers: shared memory, files in portions, the first failure stops the rest."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmm.dicom.geometry import Canonical, StackGeometry
from medmm.dicom.limits import Limits
from medmm.dicom.types import Instance, Slice
from medmm.errors import InputError

_PORTION_BYTES = 8 * 2**20  # of pixels a request, so that two workers end at about the same time
_PORTION_FILES = 64
_BYTES_A_WORKER = 16 * 2**20  # below this a second worker costs more than it brings


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """Where every slice of a series goes. `buffer_shape` is (slices, rows, columns)."""

    slices: tuple[Slice, ...]
    buffer_shape: tuple[int, int, int]
    geometry: StackGeometry
    canonical: Canonical

    @property
    def flips(self) -> tuple[bool, bool, bool]:
        """Which axes of the buffer run backwards."""
        flip_columns, flip_rows, flip_slices = self.canonical.is_flipped
        return flip_slices, flip_rows, flip_columns


@dataclass(frozen=True, slots=True)
class _FileJob:
    """The slices of one file: (position in its frames, place in the buffer)."""

    instance: Instance
    targets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """The buffer (slices, rows, columns) float32, every slice in its place, and its range of values."""

    buffer: np.ndarray
    low: float
    high: float


def fill(plan: ReadPlan, workers: int | None, limits: Limits) -> Filled:
    """Return the filled buffer of a plan.

    Raises:
        InputError: The first failure; limit.memory, limit.time or decode.failed when a worker died.
    """
    jobs = _file_jobs(plan)
    if workers == 0:
        return _fill_here(plan, jobs, limits)
    size = int(np.prod(plan.buffer_shape)) * 4
    descriptor = _shared_memory(size)
    try:
        low, high = _fill_there(plan, jobs, descriptor, _worker_count(workers, size), limits)
        shared = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    return Filled(np.frombuffer(shared, dtype=np.float32).reshape(plan.buffer_shape), low, high)


def _file_jobs(plan: ReadPlan) -> list[_FileJob]:
    """Group slices by file, keeping their order."""
    instances: dict[int, Instance] = {}
    targets: dict[int, list[tuple[int, int]]] = {}
    positions: dict[int, dict[int, int]] = {}
    for place, piece in enumerate(plan.slices):
        key = id(piece.instance)
        if key not in instances:
            instances[key] = piece.instance
            positions[key] = {id(frame): n for n, frame in enumerate(piece.instance.frames)}
        targets.setdefault(key, []).append((positions[key][id(piece.frame)], place))
    return [_FileJob(instances[key], tuple(places)) for key, places in targets.items()]


def _fill_here(plan: ReadPlan, jobs: list[_FileJob], limits: Limits) -> Filled:
    from medmm.dicom.fill import fill_from_file

    buffer = np.empty(plan.buffer_shape, dtype=np.float32)
    view = buffer[tuple(slice(None, None, -1 if flip else 1) for flip in plan.flips)]
    ranges = [
        fill_from_file(job.instance, [(job.instance.frames[n], view[place]) for n, place in job.targets], limits)
        for job in jobs
    ]
    return Filled(buffer, min(low for low, _ in ranges), max(high for _, high in ranges))


def _fill_there(
    plan: ReadPlan, jobs: list[_FileJob], descriptor: int, workers: int, limits: Limits
) -> tuple[float, float]:
    """Let workers fill the memory behind `descriptor`; returns the range of values."""
    from medmm.dicom import pool

    def tasks() -> Iterator[pool.Task]:
        for portion in _portions(jobs):
            request = {
                "do": "fill",
                "shape": plan.buffer_shape,
                "flips": plan.flips,
                "buffer_bytes": int(np.prod(plan.buffer_shape)) * 4,
            }
            yield pool.Task(request, portion, "files", _encode, descriptor)

    low, high = np.inf, -np.inf
    for reply in pool.run(tasks(), workers, limits):
        if reply.death:
            raise death_error(reply.death, limits)
        values, failure = reply.value
        if failure is not None:
            code, message, remedy = failure
            raise InputError(message, code=code, remedy=remedy)
        low, high = min(low, values[0]), max(high, values[1])
    return float(low), float(high)


def _encode(jobs: list[_FileJob]) -> list[Any]:
    """Jobs as JSON-ready lists, one stream of shared values for all of them."""
    from medmm.dicom.codec import Encoder

    encoder = Encoder()
    return [[encoder.instance(job.instance), job.targets] for job in jobs]


def _portions(jobs: list[_FileJob]) -> Iterator[list[_FileJob]]:
    portion: list[_FileJob] = []
    size = 0
    for job in jobs:
        portion.append(job)
        size += job.instance.size
        if size >= _PORTION_BYTES or len(portion) >= _PORTION_FILES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _worker_count(asked: int | None, size: int) -> int:
    if asked is not None:
        return max(asked, 1)
    return max(1, min(os.cpu_count() or 1, size // _BYTES_A_WORKER))


def _shared_memory(size: int) -> int:
    """A descriptor of zeroed memory that vanishes with its last user; no name in any file system on Linux."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("medmm-volume")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise InputError(f"Expected {size} bytes of memory for the volume (got none).", code="limit.memory") from None
    return descriptor


def death_error(death: str, limits: Limits) -> InputError:
    """The error for a worker that died over a file."""
    if death == "time":
        return InputError(
            f"Expected a file to be read within {limits.seconds:g} s (the worker was stopped).",
            code="limit.time",
            remedy="Raise the limit if the file is trusted.",
        )
    if death == "memory":
        return InputError(
            "Expected a file to be read within the memory of the machine (the worker was killed).",
            code="limit.memory",
            remedy="Use fewer workers, or leave the series out.",
        )
    return InputError(
        "Expected pixels that the decoder reads (its process died over them).",
        code="decode.failed",
        remedy="Export the series again, uncompressed.",
    )
