"""What batch tests share: a phantom cohort, jobs on it, and comparison of output folders."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from medmm.synthetic import Cohort, write_cohort
from pipelines.diagnose import Job

N_CASES = 5
# These say when and where a run was, not what it found.
OF_THE_RUN = ("run.json", "ledger.jsonl")


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Five phantom patients with reports and records; read only."""
    return write_cohort(tmp_path_factory.mktemp("batch"), n_cases=N_CASES, seed=0)


@pytest.fixture
def make_job(cohort: Cohort, tmp_path: Path) -> Callable[..., Job]:
    """A job on the cohort; every field can be given otherwise."""
    key = tmp_path / "id_key"
    key.write_bytes(bytes(32))

    def make(out: str = "out", **fields: object) -> Job:
        values: dict[str, object] = {
            "folder": cohort.studies,
            "output": tmp_path / out,
            "reports": cohort.reports,
            "records": cohort.records,
            "id_key": key,
        }
        return Job(**(values | fields))  # type: ignore[arg-type]  # fields by name

    return make


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every result under `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in OF_THE_RUN)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
