"""Do memory and time per case stay flat from ten thousand to a million studies?

    python tests/benchmarks/bench_million.py [--sizes 10000 100000 1000000] [--shards 10] [--folder /dev/shm]

Small fake cases (a row of results; one in ten with a file) go through everything of a batch that knows all cases: the
ledger line by line (with its fsync), reading it back for a resume, the tables with the cohort page, and the merge of
shards. Each step of each size runs in a process of its own; its peak memory is reported less that of an empty one, and
its CPU seconds (user and system), because other load on the machine disturbs them least.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from medmm.identity import opaque_id, shard_of
from pipelines.config import RunConfig
from pipelines.ledger import Entry, Fingerprint, Ledger, read_ledger
from pipelines.merge import merge_runs
from pipelines.output import OutputFolder
from pipelines.provenance import RunRecord
from pipelines.tables import write_id_map

KEY = bytes(32)
WITH_FILE = 10  # one case in ten has a file: two million more inodes would measure the file system


def fingerprint(shard: str) -> Fingerprint:
    """That of a run with default settings."""
    settings = {f"config.{name}": json.dumps(value) for name, value in RunConfig().model_dump(mode="json").items()}
    return Fingerprint(
        parts={"model": "fake 1", "weights_sha256": "0" * 64, "graph_hash": "1" * 64, "shard": shard, **settings}
    )


def entry(number: int) -> Entry:
    """One finished case, one in fifty refused."""
    case = opaque_id("case", KEY, str(number))
    if number % 50 == 0:
        failure = {
            "stage": "read",
            "code": "dicom.truncated",
            "file": "",
            "reason": "The file ends early.",
            "remedy": "Export again.",
        }
        return Entry(case_id=case, status="refused", stamp="0" * 32, failure=failure)
    p = (number % 997) / 997
    row = {
        "case": case,
        "status": "ok",
        "codes": "",
        "abstained": "",
        "outside_training": 0.0,
        "ood_score": 1.5,
        "diagnosis": "glioma",
        "diagnosis.probability": round(p, 4),
        "diagnosis.set": "glioma",
        "lesion.volume_ml": 12.5,
        "model": "fake 1",
        "weights_sha256": "0" * 64,
        "graph_hash": "1" * 64,
    }
    return Entry(
        case_id=case,
        status="ok",
        stamp="0" * 32,
        inputs={"flair": "a" * 64, "report": "b" * 64},
        row=row,
        outputs={"case.json": 20} if number % WITH_FILE == 1 else {},
        notes=(("series.choice", "One of two series was chosen."),),
    )


def write_shard(root: Path, name: str, numbers: Sequence[int]) -> None:
    """The ledger and files of one part."""
    folder = OutputFolder(root)
    folder.cases.mkdir(parents=True)
    made = [opaque_id("case", KEY, str(number)) for number in numbers]
    with Ledger(folder.ledger) as ledger:
        ledger.begin(fingerprint(name), {})
        ledger.plan(tuple(made))
        for number in numbers:
            one = entry(number)
            if one.outputs:
                folder.case(one.case_id).mkdir()
                (folder.case(one.case_id) / "case.json").write_bytes(b"x" * 20)
            ledger.add(one)
    rows = ({"id": case, "kind": "case", "patient_id": case, "study_uid": case, "path": "/data"} for case in made)
    write_id_map(root / "id_map.csv", list(rows))


def write_shards(root: Path, shards: int, size: int) -> None:
    """All parts, one after the other."""
    parts: list[list[int]] = [[] for _ in range(shards)]
    for number in range(size):
        parts[shard_of(str(number), shards) - 1].append(number)
    for index, numbers in enumerate(parts, 1):
        write_shard(root / f"part-{index}", f"{index}/{shards}", numbers)


def resume(root: Path, shards: int) -> None:
    """Read every ledger back."""
    for shard in range(1, shards + 1):
        read_ledger(root / f"part-{shard}" / "ledger.jsonl")


def tables(root: Path, size: int) -> None:
    """What `close` writes at the end of a run of that size."""
    (root / "tables").mkdir()
    record = RunRecord(
        folder=OutputFolder(root / "tables"), config=RunConfig(), fingerprint=fingerprint("1/1"), titles={}
    )
    record.close((entry(number) for number in range(size)), done_before=0)


def merge(root: Path, shards: int) -> None:
    """Join the parts."""
    merge_runs([root / f"part-{shard}" for shard in range(1, shards + 1)], root / "merged")


def measured(work: Callable[..., None], *arguments: object) -> tuple[float, float]:
    """CPU seconds and peak MiB of a call in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_timed, args=(theirs, work, arguments))
    process.start()
    seconds, mib = ours.recv()
    process.join()
    return seconds, mib


def _timed(pipe: object, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    started = time.process_time()
    work(*arguments)
    seconds = time.process_time() - started
    pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))  # type: ignore[attr-defined]


def nothing() -> None:
    """For the memory of an empty process."""


def steps(root: Path, shards: int, size: int) -> Iterator[tuple[str, Callable[..., None], tuple[object, ...]]]:
    """What is measured at one size."""
    yield "ledger and files written", write_shards, (root, shards, size)
    yield "ledger read back", resume, (root, shards)
    yield "tables and cohort page", tables, (root, size)
    yield "merge of the shards", merge, (root, shards)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    empty = measured(nothing)[1]
    say("| cases | step | CPU s | CPU µs a case | peak MiB | KiB a case |\n|---|---|---|---|---|---|")
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            for title, work, arguments in steps(Path(name), options.shards, size):
                seconds, mib = measured(work, *arguments)
                used = mib - empty
                each = f"{1e6 * seconds / size:.0f} | {used:.0f} | {1024 * used / size:.2f}"
                say(f"| {size:,} | {title} | {seconds:.1f} | {each} |")
            shutil.rmtree(name, ignore_errors=True)


if __name__ == "__main__":
    main()
