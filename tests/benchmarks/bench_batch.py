"""How many studies a minute does a batch diagnose, and what does it cost beside the network?

    python tests/benchmarks/bench_batch.py [--studies ../shared/data/lgg_dicom] [--copies 3] [--model glioma-mri]
    python tests/benchmarks/bench_batch.py --copies 0 --memory 500

Real studies are copied under new UIDs. Every way of running them is a process of its own with one thread for each
network; the model is loaded before the clock starts. The ways take turns for `--rounds`, and the best round counts:
  plain      a loop over the library: read_cases, diagnose, explain, save; no ledger, no locks, nothing is synced
  1, 2       the batch with one and two decode workers
  devices    the batch on two processes that hold a model each (`--device cpu,cpu`)
  shards     the batch split over two processes at the same time
  ray 1, 2   the batch on one and two Ray workers
CPU seconds are those of the whole process with imports and loading; other load on the machine disturbs them least.
Where the model is loaded in other processes (devices, Ray) the clock is that of the run itself, loading apart, and the
peak is the driver's. `--memory N` sends N phantom studies through the batch with a small rule model and says how large
it was on the way.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pydicom
from pydicom.uid import generate_uid

HERE = Path(__file__).resolve()
STUDIES = HERE.parents[3] / "shared" / "data" / "lgg_dicom"
WAYS = {
    "plain": [["--way", "plain"]],
    "1 decode worker": [["--way", "local", "--workers", "1"]],
    "2 decode workers": [["--way", "local", "--workers", "2"]],
    "2 devices (cpu,cpu)": [["--way", "local", "--workers", "2", "--device", "cpu,cpu"]],
    "2 shards at once": [["--way", "local", "--workers", "1", "--shard", f"{number}/2"] for number in (1, 2)],
    "1 Ray worker": [["--way", "ray", "--workers", "1"]],
    "2 Ray workers": [["--way", "ray", "--workers", "2"]],
}


def copy_studies(source: Path, target: Path, copies: int) -> int:
    """Copy every study `copies` times under new UIDs and patient ids; how many there are."""
    count = set()
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        try:
            dataset = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        uids = {name: str(dataset[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
        patient = str(dataset.PatientID)
        for number in range(copies):
            for name, value in uids.items():
                setattr(dataset, name, generate_uid(entropy_srcs=[value, str(number)]))
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID = f"{patient}-{number}"
            place = target / str(number) / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(place)
            count.add(dataset.StudyInstanceUID)
    return len(count)


def run_one(options: argparse.Namespace) -> dict[str, Any]:
    """What a child process does: load the model, then run; seconds, stages and peak memory."""
    from medmm.diagnose import load_model
    from pipelines.diagnose import Job, diagnose_folder
    from pipelines.judge import ModelSource

    started = 0.0

    def load(device: str) -> Any:
        nonlocal started
        model = load_model(options.model, device=device)
        started = time.perf_counter()
        return model

    if options.way == "plain":
        return _plain(load("cpu"), options)
    number, _, count = options.shard.partition("/")
    job = Job(
        folder=options.studies,
        output=options.out,
        workers=options.workers,
        engine=options.way,
        device=options.device,
        shard=(int(number), int(count)),
    )
    if options.way == "ray" or "," in options.device:  # loaded in the workers: the clock of the run itself is taken
        summary = diagnose_folder(job, ModelSource(options.model, job.config))
        seconds = summary.seconds
    else:
        summary = diagnose_folder(job, load)
        seconds = time.perf_counter() - started
    stages = {name: values["total_s"] for name, values in summary.stages.items()}
    return {"seconds": seconds, "cases": summary.cases, "stages": stages, "mib": summary.peak_memory_mib}


def _plain(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    import medmm

    started = time.perf_counter()
    stages, cases = {"diagnose": 0.0, "explain": 0.0}, 0
    for case in medmm.read_cases(options.studies, roles=model.spec.roles):
        begun = time.perf_counter()
        diagnosis = model.diagnose(case)
        middle = time.perf_counter()
        explanation = model.explain(case, diagnosis)
        stages["diagnose"] += middle - begun
        stages["explain"] += time.perf_counter() - middle
        explanation.report().save(options.out / case.case_id)
        cases += 1
    mib = psutil.Process().memory_info().rss / 2**20
    return {"seconds": time.perf_counter() - started, "cases": cases, "stages": stages, "mib": mib}


def run_way(commands: Sequence[Sequence[str]], studies: Path, model: str, root: Path) -> dict[str, Any]:
    """Run the processes of one way at the same time; the slowest counts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    processes = []
    for number, arguments in enumerate(commands):
        out = root / f"out{number}"
        command = [
            sys.executable,
            str(HERE),
            "--studies",
            str(studies),
            "--model",
            model,
            "--out",
            str(out),
            *arguments,
        ]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    parts = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    for number in range(len(commands)):
        shutil.rmtree(root / f"out{number}")
    known = {name for part in parts for name in part["stages"]}
    stages = {name: sum(part["stages"].get(name, 0.0) for part in parts) for name in STAGES if name in known}
    return {
        "seconds": max(part["seconds"] for part in parts),
        "cases": sum(part["cases"] for part in parts),
        "stages": stages,
        "mib": sum(part["mib"] for part in parts),
        "cpu": sum(part["cpu"] for part in parts),
    }


def compare(options: argparse.Namespace) -> None:
    """Run every way and print the table."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        count = copy_studies(options.studies, root / "studies", options.copies)
        best: dict[str, dict[str, Any]] = {}
        for _ in range(options.rounds):
            for way, commands in WAYS.items():
                result = run_way(commands, root / "studies", options.model, root)
                if way not in best or result["seconds"] < best[way]["seconds"]:
                    best[way] = result
    say(f"{count} studies, model {options.model}, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} beside it.\n")
    say(
        "| way | studies a minute | s a study | read | diagnose | explain | write | beside network | CPU s | peak MiB |"
    )
    say("|---|---|---|---|---|---|---|---|---|---|")
    for way, result in best.items():
        n, seconds, stages = result["cases"], result["seconds"], result["stages"]
        network = stages["diagnose"] + stages["explain"]
        beside = f"{100 * (1 - network / seconds):.0f}%" if way in ONE_AT_A_TIME else ""
        each = " | ".join(f"{stages[name] / n:.2f}" if name in stages else "" for name in STAGES)
        cpu = "" if "Ray" in way or "devices" in way else f"{result['cpu']:.0f}"  # not known
        say(f"| {way} | {60 * n / seconds:.1f} | {seconds / n:.2f} | {each} | {beside} | {cpu} | {result['mib']:.0f} |")

    say("")
    for first, second, what in PAIRS:
        if first in best and second in best:
            ratio = best[first]["seconds"] / best[second]["seconds"]
            say(f"{what}: {second} is {ratio:.2f} x as fast as {first}.")


STAGES = ("read", "diagnose", "explain", "write")
ONE_AT_A_TIME = ("plain", "1 decode worker", "2 decode workers")  # ways in which one model works at a time
PAIRS = (
    ("plain", "1 decode worker", "batch against a plain loop"),
    ("1 decode worker", "2 decode workers", "decode workers"),
    ("1 decode worker", "2 devices (cpu,cpu)", "devices"),
    ("1 decode worker", "2 shards at once", "shards"),
    ("1 Ray worker", "2 Ray workers", "Ray"),
)


def memory(count: int) -> None:
    """Print how large a batch is after each fifth of `count` phantom studies."""
    sys.path.insert(0, str(HERE.parents[1] / "pipelines"))
    from rule_model import RuleModel

    from medmm.synthetic import write_cohort
    from pipelines.diagnose import Job, diagnose_folder
    from pipelines.events import CaseDone, Event

    def look(event: Event) -> None:
        if isinstance(event, CaseDone) and event.done % (count // 10) == 0:
            here = psutil.Process()
            own, others = here.memory_info().rss, sum(child.memory_info().rss for child in here.children())
            say(f"| {event.done} | {own / 2**20:.0f} | {others / 2**20:.0f} |")

    with tempfile.TemporaryDirectory() as name:
        cohort = write_cohort(Path(name) / "cohort", n_cases=count, seed=0)
        say("| studies done | MiB, driver with the model | MiB, decode workers |\n|---|---|---|")
        job = Job(folder=cohort.studies, output=Path(name) / "out", reports=cohort.reports, workers=2)
        summary = diagnose_folder(job, RuleModel, look)
        say(f"\n{summary.cases} studies in {summary.seconds:.0f} s, peak {summary.peak_memory_mib:.0f} MiB.")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, default=STUDIES)
    parser.add_argument("--model", default="glioma-mri")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--way", choices=("plain", "local", "ray"), help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--shard", default="1/1", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        result = run_one(options)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        say(json.dumps(result | {"cpu": sum(one.ru_utime + one.ru_stime for one in used)}))
        return
    if options.copies:
        compare(options)
    if options.memory:
        memory(options.memory)


if __name__ == "__main__":
    main()
