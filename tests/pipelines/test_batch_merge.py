"""Shards: together they are the whole, byte for byte, and nothing less is called the whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_cohort import N_CASES, digests
from rule_model import RuleModel, RuleSpec

from medmm.errors import UsageError
from pipelines.diagnose import Job, diagnose_folder
from pipelines.merge import merge_runs

MakeJob = Callable[..., Job]
COUNT = 3


@pytest.fixture
def shards(make_job: MakeJob) -> list[Path]:
    """The outputs of three shards."""
    jobs = [make_job(out=f"shard{number}", shard=(number, COUNT)) for number in range(1, COUNT + 1)]
    for job in jobs:
        diagnose_folder(job, RuleModel)
    return [job.output for job in jobs]


@pytest.mark.bad_input("I8")
def test_merged_shards_equal_one_run_byte_for_byte(shards: list[Path], make_job: MakeJob, tmp_path: Path) -> None:
    diagnose_folder(make_job(), RuleModel)

    summary = merge_runs(shards[::-1], tmp_path / "merged")

    assert summary.cases == N_CASES
    merged, whole = digests(tmp_path / "merged"), digests(make_job().output)
    assert merged == whole


def test_a_merged_run_leaves_its_parts_as_they_were(shards: list[Path], tmp_path: Path) -> None:
    before = [digests(path) for path in shards]

    merge_runs(shards, tmp_path / "merged")
    shutil.rmtree(tmp_path / "merged")

    assert [digests(path) for path in shards] == before


def test_a_missing_or_repeated_shard_is_named(shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing: 2/3"):
        merge_runs([shards[0], shards[2]], tmp_path / "merged")
    with pytest.raises(UsageError, match="each of 3 shards once"):
        merge_runs([*shards, shards[0]], tmp_path / "merged")


def test_an_unfinished_shard_is_refused(shards: list[Path], tmp_path: Path) -> None:
    for path in shards:
        for case in sorted((path / "cases").iterdir()):
            shutil.rmtree(case)

    with pytest.raises(UsageError, match="not finished"):
        merge_runs(shards, tmp_path / "merged")


def test_shards_of_different_models_are_not_joined(shards: list[Path], make_job: MakeJob, tmp_path: Path) -> None:
    other = make_job(out="shard1", shard=(1, COUNT), may_overwrite=True)
    diagnose_folder(other, lambda device: RuleModel(spec=RuleSpec(graph_hash="e" * 64)))

    with pytest.raises(UsageError, match="graph_hash"):
        merge_runs(shards, tmp_path / "merged")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="holds no run"):
        merge_runs([tmp_path / "empty"], tmp_path / "merged")
