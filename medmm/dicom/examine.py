"""Headers of many files, read by workers in parallel and handed on in the order of the paths."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

from medmm.dicom.filling import death_error
from medmm.dicom.header import FileFacts, examine
from medmm.dicom.limits import Limits
from medmm.dicom.types import Skipped

_FIRST_BATCH, _LAST_BATCH = 32, 256


def examine_all(paths: Iterable[Path], workers: int | None, limits: Limits) -> Iterator[tuple[Path, FileFacts]]:
    """Yield every path with what its file is, in order. A file that ends a worker is refused; the rest go on."""
    if workers == 0:
        yield from ((path, examine(path, limits)) for path in paths)
        return
    from medmm.dicom import pool
    from medmm.dicom.codec import Decoder

    sizes: dict[int, int] = {}

    def tasks() -> Iterator[pool.Task]:
        source = iter(paths)
        for number in count():
            # Small portions first, so that every worker has one soon; larger ones later, so that few wait for the next.
            batch = list(islice(source, min(_FIRST_BATCH << min(number // 2, 3), _LAST_BATCH)))
            if not batch:
                return
            sizes[number] = len(batch)
            yield pool.Task({"do": "examine"}, batch, "paths", _names, tag=number)

    done: dict[int, list[tuple[Path, FileFacts]]] = defaultdict(list)
    streams: dict[int, dict[pool.Task, Decoder]] = defaultdict(dict)  # after a death a batch comes in several
    turn = 0
    for reply in pool.run(tasks(), workers or os.cpu_count() or 1, limits):
        number, path = reply.task.tag, reply.item
        if reply.death:
            fact = FileFacts(skipped=_death(path, reply.death, limits))
        else:
            fact = streams[number].setdefault(reply.task, Decoder()).facts(reply.value, path)
        done[number].append((path, fact))
        while len(done.get(turn, ())) == sizes.get(turn, -1):
            yield from done.pop(turn)
            streams.pop(turn, None)
            turn += 1


def _names(paths: list[Path]) -> list[str]:
    return [os.fspath(path) for path in paths]


def _death(path: Path, death: str, limits: Limits) -> Skipped:
    """The refusal of a file that ended its worker while its header was read."""
    error = death_error(death, limits)
    if error.code == "decode.failed":
        return Skipped(
            path, "Expected a header that can be read (the reader's process died over it).", "dicom.malformed"
        )
    return Skipped(path, str(error), error.code)
