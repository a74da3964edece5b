"""Does a batch that is killed again and again end with the bytes of one that was left alone?

    python tests/benchmarks/bench_kills.py [--kills 100] [--studies 40]

Phantom studies go through the whole command line with a small rule model in the place of a network. Each attempt is
killed (SIGKILL) at a moment drawn evenly over the duration of an undisturbed run, then the same command runs again with
`--resume`. An attempt that survives has finished the batch: its folder is compared with the undisturbed one, file by
file, and a new folder is begun, until there have been enough kills.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from medmm.synthetic import write_cohort
from pipelines.ledger import read_ledger

RULES = Path(__file__).resolve().parents[1] / "pipelines" / "rule_model.py"
# These say when a run was and how far it came, not what it found.
OF_THE_RUN = ("run.json", "ledger.jsonl")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every result."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in OF_THE_RUN)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(studies: Path, reports: Path, out: Path, home: Path, kill_after_s: float | None) -> bool:
    """Run the batch, killed after some seconds; whether it ended by itself."""
    command = [sys.executable, str(RULES), "diagnose", str(studies), "--model", "0.01", "--out", str(out), "--quiet",
               "--reports", str(reports), "--resume", "--workers", "2"]  # fmt: skip
    environment = {**os.environ, "XDG_CONFIG_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, error = process.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {error.decode()}")
    return True


def moment(out: Path, n_studies: int) -> str:
    """What the run was doing when it was killed, told from what it left."""
    if not (out / "ledger.jsonl").exists():
        return "before the first case"
    done = len(read_ledger(out / "ledger.jsonl").entries)
    writing = any(path.name.startswith(".writing-") for path in (out / "cases").iterdir())
    if done == n_studies:
        return "while tables were written, or just after"
    return "while a case was written" if writing else "between writes of cases"


def measure(kills: int, n_studies: int, seed: int) -> list[str]:
    """Lines of the result."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        cohort = write_cohort(root / "cohort", n_cases=n_studies, seed=seed)

        def attempt(out: Path, after_s: float | None) -> bool:
            return run(cohort.studies, cohort.reports, out, root, after_s)

        attempt(root / "warm-up", None)
        started = time.perf_counter()
        attempt(root / "whole", None)
        seconds = time.perf_counter() - started
        expected = digests(root / "whole")
        moments, batches, different, resumed = Counter[str](), 0, 0, 0
        out = root / "killed-0"
        while sum(moments.values()) < kills:
            if attempt(out, chance.uniform(0, seconds)):
                batches, different = batches + 1, different + (digests(out) != expected)
                out = root / f"killed-{batches}"
            else:
                moments[moment(out, n_studies)] += 1
        if out.exists():
            attempt(out, None)
            batches, different, resumed = batches + 1, different + (digests(out) != expected), resumed + 1
    return [
        f"{n_studies} studies, undisturbed run {seconds:.1f} s, {len(expected)} result files.",
        f"{sum(moments.values())} kills over {batches} batches, each finished by --resume.",
        f"Batches whose files differ in any byte from the undisturbed run: {different}.",
        *(f"- killed {what}: {count}" for what, count in moments.most_common()),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.write("\n".join(measure(options.kills, options.studies, options.seed)) + "\n")


if __name__ == "__main__":
    main()
