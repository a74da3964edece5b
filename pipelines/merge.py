"""Join the outputs of shards into one run, as if it had never been split."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmm.errors import UsageError
from pipelines.case_output import is_kept
from pipelines.events import RunSummary
from pipelines.ledger import Entry, Fingerprint, Ledger, LedgerState, read_ledger
from pipelines.output import OutputFolder, clear, locked, prepare
from pipelines.provenance import RunRecord, config_of
from pipelines.tables import join_id_maps

SHARD = "shard"


@dataclass(frozen=True, slots=True)
class Part:
    """A shard's folder and what its ledger says."""

    folder: OutputFolder
    state: LedgerState


def merge_runs(parts: Sequence[Path], output: Path, *, may_overwrite: bool = False) -> RunSummary:
    """Join finished shards in `output`; their own folders stay as they are.

    Args:
        parts: Output folders of `diagnose --shard i/n`, all n of them.
        output: Another folder, new or empty.
        may_overwrite: Replace what an earlier run or merge wrote there.
    Raises:
        UsageError: `config.output` where a shard is missing, unfinished, there twice, or made by another model or
            configuration.
    """
    read = [_open(path) for path in parts]
    fingerprint = _common_fingerprint(read)
    _check_complete(read)
    folder = prepare(output, may_continue=False, may_overwrite=may_overwrite)
    with locked(folder):
        if may_overwrite:
            clear(folder)
        folder.cases.mkdir(exist_ok=True)
        record = RunRecord(
            folder=folder, config=config_of(fingerprint), fingerprint=fingerprint, titles=read[0].state.titles
        )
        join_id_maps(folder.root / "id_map.csv", [part.folder.root / "id_map.csv" for part in read])
        entries: list[Entry] = []
        with Ledger(folder.ledger) as ledger:
            ledger.begin(fingerprint, read[0].state.titles)
            ledger.plan(tuple(sorted(case_id for part in read for case_id in part.state.entries)))
            for part in read:
                for entry in sorted(part.state.entries.values(), key=lambda item: item.case_id):
                    if entry.case_id in part.state.planned:
                        _copy_case(part.folder, folder, entry)
                        ledger.add(entry)
                        entries.append(entry)
        record.close(entries, done_before=0)
        return record.summary


def _open(path: Path) -> Part:
    folder = OutputFolder(path)
    state = read_ledger(folder.ledger)
    if state.fingerprint is None:
        raise UsageError(
            "A folder to merge holds no run (it has no readable ledger).",
            code="config.output",
            remedy="Name the output folders of `medmm diagnose --shard i/n`.",
        )
    return Part(folder, state)


def _common_fingerprint(parts: Sequence[Part]) -> Fingerprint:
    """The fingerprint that all parts share, their shard apart."""
    whole = [_without_shard(part.state.fingerprint) for part in parts if part.state.fingerprint is not None]
    for other in whole[1:]:
        if other.digest != whole[0].digest:
            raise UsageError(
                f"The runs to merge differ in: {', '.join(whole[0].differences(other))}.",
                code="config.output",
                remedy="Run all shards with the same model and options.",
            )
    return Fingerprint(parts={**whole[0].parts, SHARD: "1/1"})


def _without_shard(fingerprint: Fingerprint) -> Fingerprint:
    return Fingerprint(parts={name: value for name, value in fingerprint.parts.items() if name != SHARD})


def _check_complete(parts: Sequence[Part]) -> None:
    """Raise unless the parts are shards 1 to n, each once and finished."""
    names = sorted(part.state.fingerprint.parts.get(SHARD, "") for part in parts if part.state.fingerprint is not None)
    count = int(names[0].partition("/")[2] or 0) if names else 0
    expected = sorted(f"{number}/{count}" for number in range(1, count + 1))
    if names != expected:
        missing = sorted(set(expected) - set(names))
        found = f"missing: {', '.join(missing)}" if missing else f"got {', '.join(names)}"
        raise UsageError(
            f"Expected each of {count} shards once ({found}).",
            code="config.output",
            remedy="Run the missing shards, and name every shard's folder once.",
        )
    for part in parts:
        missing_cases = [
            case_id
            for case_id in part.state.planned
            if case_id not in part.state.entries or not _is_usable(part.state.entries[case_id], part.folder)
        ]
        if missing_cases:
            shard = part.state.fingerprint.parts.get(SHARD, "") if part.state.fingerprint is not None else ""
            raise UsageError(
                f"Shard {shard} is not finished: {len(missing_cases)} of its cases are missing.",
                code="config.output",
                remedy="Finish it with --resume, then merge.",
            )


def _is_usable(entry: Entry, folder: OutputFolder) -> bool:
    return entry.status == "refused" or is_kept(entry, folder)


def _copy_case(source: OutputFolder, target: OutputFolder, entry: Entry) -> None:
    """Link the files of a case, or copy them where the folders lie on different disks."""
    for name in entry.outputs:
        destination = target.case(entry.case_id) / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        origin = source.case(entry.case_id) / name
        try:
            os.link(origin, destination)
        except OSError:
            shutil.copyfile(origin, destination)
