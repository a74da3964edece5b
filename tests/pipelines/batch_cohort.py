"""How large the batch tests' cohort is, and how output folders are compared."""

import hashlib
from pathlib import Path

N_CASES = 5
# These say when and where a run was, not what it found.
OF_THE_RUN = ("run.json", "ledger.jsonl")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every result under `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in OF_THE_RUN)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
