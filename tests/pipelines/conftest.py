"""What batch tests share: a phantom cohort and jobs on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from batch_cohort import N_CASES

from medmm.synthetic import Cohort, write_cohort
from pipelines.diagnose import Job


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
