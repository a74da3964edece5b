"""A planned volume filled by workers: shared memory, files in portions, the first failure stops the rest."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medmm.dicom import syntaxes
from medmm.dicom.limits import Limits
from medmm.dicom.plan import FileJob, Filled, ReadPlan
from medmm.dicom.threads import fill_by_threads
from medmm.dicom.types import Instance
from medmm.errors import InputError
from medmm.types import Note, Volume

_PORTION_BYTES = 8 * 2**20  # of pixels a request, so that two workers end at about the same time
_DECODING_WEIGHT = 16  # a compressed byte costs at least as much time as so many plain ones
_PORTION_FILES = 64
_BYTES_A_WORKER = 16 * 2**20  # below this a second worker costs more than it brings


def fill(plan: ReadPlan, workers: int | None, limits: Limits) -> Filled:
    """Return the filled buffer of a plan.

    Uncompressed pixels are copied by threads of this process: their place and length were checked against the file by
    the worker that parsed its header, so there is nothing left to parse. Everything that a decoder must touch goes to
    workers that may be killed.

    Raises:
        InputError: The first failure; limit.memory, limit.time or decode.failed when a worker died.
    """
    jobs = _file_jobs(plan)
    size = int(np.prod(plan.buffer_shape)) * 4
    if workers == 0:
        return fill_by_threads(plan, jobs, 0, limits)
    if all(_is_plain(job.instance) for job in jobs):
        return fill_by_threads(plan, jobs, _worker_count(workers, size), limits)
    descriptor = _shared_memory(size)
    try:
        low, high = _fill_there(plan, jobs, descriptor, _worker_count(workers, size), limits)
        shared = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    return Filled(np.frombuffer(shared, dtype=np.float32).reshape(plan.buffer_shape), low, high)


def _is_plain(instance: Instance) -> bool:
    return instance.pixel_length >= 0 and instance.pixels.transfer_syntax != syntaxes.DEFLATED


def _file_jobs(plan: ReadPlan) -> list[FileJob]:
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
    return [FileJob(instances[key], tuple(places)) for key, places in targets.items()]


def _fill_there(
    plan: ReadPlan, jobs: list[FileJob], descriptor: int, workers: int, limits: Limits
) -> tuple[float, float]:
    """Let workers fill the memory behind `descriptor`; returns the range of values."""
    from medmm.dicom import pool

    def tasks() -> Iterator[pool.Task]:
        for portion in _portions(jobs):
            if failures:
                return
            request = {
                "do": "fill",
                "shape": plan.buffer_shape,
                "flips": plan.flips,
                "buffer_bytes": int(np.prod(plan.buffer_shape)) * 4,
            }
            yield pool.Task(request, portion, "files", _encode, descriptor)

    low, high = np.inf, -np.inf
    failures: list[InputError] = []
    for reply in pool.run(tasks(), workers, limits):
        if reply.death:
            raise death_error(reply.death, limits)
        values, failure = reply.value
        if failure is not None:
            code, message, remedy = failure
            failures.append(InputError(message, code=code, remedy=remedy))
        else:
            low, high = min(low, values[0]), max(high, values[1])
    if failures:  # raised only now, so that the workers are free for the next series
        raise failures[0]
    return float(low), float(high)


def _encode(jobs: list[FileJob]) -> list[Any]:
    """Jobs as JSON-ready lists, one stream of shared values for all of them."""
    from medmm.dicom.codec import Encoder

    encoder = Encoder()
    return [[os.fspath(job.instance.path), encoder.instance(job.instance), job.targets] for job in jobs]


def image_by_worker(path: Path, modality: str, limits: Limits) -> Volume:
    """Return a NIfTI file or a picture as a worker reads it.

    Raises:
        InputError: The worker's failure, or what its death means.
    """
    from medmm.dicom import pool

    descriptor = _shared_memory(0)
    try:
        request = {"do": "image", "modality": modality, "buffer_bytes": 0}
        replies = list(pool.run([pool.Task(request, [os.fspath(path)], "paths", list, descriptor)], 1, limits))
        if replies[0].death:
            raise death_error(replies[0].death, limits)
        values, failure = replies[0].value
        if failure is not None:
            code, message, remedy = failure
            raise InputError(message, code=code, remedy=remedy)
        shape, affine, unit, notes = values
        shared = mmap.mmap(descriptor, int(np.prod(shape)) * 4)
    finally:
        os.close(descriptor)
    return Volume(
        voxels=np.frombuffer(shared, dtype=np.float32).reshape(shape),
        affine_ras=np.array(affine),
        modality=modality,
        unit=unit,
        notes=tuple(Note(*note) for note in notes),
    )


def _portions(jobs: list[FileJob]) -> Iterator[list[FileJob]]:
    portion: list[FileJob] = []
    size = 0
    for job in jobs:
        portion.append(job)
        size += job.instance.size * (_DECODING_WEIGHT if job.instance.pixel_length < 0 else 1)
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
