"""What made the results: the fingerprint that decides whether a run may be continued, and `run.json`."""

import json
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import medmm
from medmm.cases import CaseList, CasePlan
from medmm.report.cohort import write_index
from medmm.report.files import write_atomic
from medmm.types import Titles
from pipelines.config import RunConfig
from pipelines.engine import StageClock
from pipelines.events import RunSummary
from pipelines.ledger import Entry, Fingerprint
from pipelines.output import OutputFolder
from pipelines.tables import failure_rows, result_rows, write_failures, write_id_map, write_results

if TYPE_CHECKING:
    from medmm.diagnose import ModelSpec

SCHEMA_VERSION = "1.0"
_LIBRARIES = ("torch", "monai", "numpy", "scipy", "pydicom", "transformers", "torch-geometric")


def fingerprint_of(
    spec: "ModelSpec", device: object, config: RunConfig, shard: tuple[int, int] = (1, 1)
) -> Fingerprint:
    """Return what has to be the same for results to belong together."""
    settings = {f"config.{name}": json.dumps(value) for name, value in config.model_dump(mode="json").items()}
    return Fingerprint(
        parts={
            "medmm": medmm.__version__,
            "model": f"{spec.name} {spec.version}",
            "weights_sha256": spec.weights_sha256,
            "graph_hash": spec.graph_hash,
            "device": str(device).partition(":")[0],
            "shard": f"{shard[0]}/{shard[1]}",
            **settings,
        }
    )


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(kw_only=True)
class RunRecord:
    """The record of one run as it goes on; `close` writes the tables, the index and `run.json`."""

    folder: OutputFolder
    config: RunConfig
    fingerprint: Fingerprint
    titles: Titles
    workers: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    started_utc: str = field(default_factory=utc_now)
    clock: StageClock = field(default_factory=StageClock)
    _start_s: float = field(default_factory=time.perf_counter)
    summary: RunSummary = field(init=False)

    @classmethod
    def start(
        cls,
        folder: OutputFolder,
        config: RunConfig,
        fingerprint: Fingerprint,
        titles: Titles,
        cases: CaseList,
        *,
        workers: int,
    ) -> "RunRecord":
        """Return the record of a run that starts now, and write down which opaque id is whose."""
        folder.cases.mkdir(exist_ok=True)
        write_id_map(folder.root / "id_map.csv", id_rows(cases.plans))
        skipped = Counter(item.code or item.reason for item in cases.skipped)
        return cls(
            folder=folder,
            config=config,
            fingerprint=fingerprint,
            titles=titles,
            workers=workers,
            skipped=dict(skipped.most_common()),
        )

    def close(self, entries: Iterable[Entry], *, done_before: int) -> None:
        """Write `results.csv`, `failures.csv`, `index.html` and `run.json` from the case entries."""
        ordered = sorted(entries, key=lambda entry: entry.case_id)
        counts = Counter(entry.status for entry in ordered)
        self.summary = RunSummary(
            output=self.folder.root,
            ok=counts["ok"],
            warned=counts["warn"],
            refused=counts["refused"],
            done_before=done_before,
            seconds=round(time.perf_counter() - self._start_s, 3),
            peak_memory_mib=_peak_memory_mib(),
            stages=self.clock.table(),
            refusals=dict(Counter(entry.failure["code"] for entry in ordered if entry.status == "refused")),
        )
        rows, failures = result_rows(ordered), failure_rows(ordered)
        write_results(self.folder.root / "results.csv", rows)
        write_failures(self.folder.root / "failures.csv", failures)
        lasting = {"run": dict(sorted(self.fingerprint.parts.items())), "cases": dict(sorted(counts.items()))}
        write_index(self.folder.root, rows, lasting, titles=self.titles, failures=failures, lang=self.config.lang)
        text = json.dumps(self._run(ordered), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(self.folder.root / "run.json", (text + "\n").encode("utf-8", "replace"))

    def _run(self, entries: list[Entry]) -> dict[str, Any]:
        summary = self.summary
        return {
            "schema_version": SCHEMA_VERSION,
            "medmm_version": medmm.__version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "libraries": _library_versions(),
            "fingerprint": self.fingerprint.digest,
            "settings": dict(self.fingerprint.parts),
            "config_sha256": self.config.digest,
            "seed": self.config.seed,
            "started_utc": self.started_utc,
            "finished_utc": utc_now(),
            "cases": {
                "found": summary.cases,
                "ok": summary.ok,
                "warn": summary.warned,
                "refused": summary.refused,
                "done_before": summary.done_before,
            },
            "refusals": dict(sorted(summary.refusals.items())),
            "warnings": dict(sorted(Counter(code for entry in entries for code, _ in entry.notes).items())),
            "skipped_files": dict(self.skipped),
            "workers": self.workers,
            "stages": {name: dict(values) for name, values in summary.stages.items()},
            "seconds": summary.seconds,
            "peak_memory_mib": summary.peak_memory_mib,
            "inputs": {entry.case_id: dict(entry.inputs) for entry in entries if entry.inputs},
        }


def config_of(fingerprint: Fingerprint) -> RunConfig:
    """The settings that a fingerprint was made of."""
    prefix = "config."
    values = {name: json.loads(text) for name, text in fingerprint.parts.items() if name.startswith(prefix)}
    return RunConfig.model_validate({name.removeprefix(prefix): value for name, value in values.items()})


def id_rows(plans: Iterable[CasePlan]) -> list[dict[str, str]]:
    """Rows of the id map: cases and broken files by opaque id, with whose they are."""
    rows = []
    for plan in plans:
        study = plan.study
        rows.append(
            {
                "id": plan.case_id,
                "kind": "case",
                "patient_id": study.patient_id if study is not None else "",
                "study_uid": study.study_uid if study is not None else "",
                "path": str(plan.files[0].parent) if plan.files else "",
            }
        )
        rows += [{"id": name, "kind": "file", "path": str(path)} for name, path in sorted(plan.broken_files.items())]
    return sorted(rows, key=lambda row: row["id"])


def _library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _peak_memory_mib() -> float:
    """Largest resident size of this process and of its largest child, added; a bound on what a worker slot needs."""
    unit = 1024 if sys.platform != "darwin" else 1024**2
    used = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(sum(used) / unit, 1)
