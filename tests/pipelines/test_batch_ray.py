"""The engine `ray`: the same results as on one machine, and a batch that outlives its workers."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rule_model
from batch_cohort import N_CASES, digests
from rule_model import RuleModel

from medmm.errors import StopRun, UsageError
from medmm.types import Case
from pipelines.diagnose import Job, diagnose_folder
from pipelines.engine import StopSwitch
from pipelines.engine.ray import RayPool, _Worker
from pipelines.events import CaseDone, Event

MakeJob = Callable[..., Job]


@pytest.mark.bad_input("H7")
def test_without_ray_nothing_starts_and_the_package_is_named(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(UsageError, match="not installed") as caught:
        diagnose_folder(make_job(engine="ray"), RuleModel)

    assert caught.value.code == "config.key"
    assert "medmm[ray]" in caught.value.remedy


@pytest.mark.bad_input("H7")
@pytest.mark.parametrize("kind", ["ObjectStoreFullError", "OutOfDiskError", "RaySystemError"])
def test_a_cluster_that_fails_stops_the_run_without_a_word_of_the_case(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    failure = getattr(ray.exceptions, kind)("SECRET")

    def get(reference: object) -> None:
        raise failure

    monkeypatch.setattr("ray.get", get)
    pool: RayPool[int, int] = RayPool(RuleModel, workers=1)  # type: ignore[arg-type]  # never made

    with pytest.raises(StopRun, match=kind) as caught:
        pool._answer(_Worker(actor=None, due=None))

    assert "--resume" in caught.value.remedy
    assert "SECRET" not in str(caught.value)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A cluster on this machine, with four slots for workers whatever the machine has."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.cloudpickle.register_pickle_by_value(rule_model)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


class Deadly(RuleModel):
    """Kills its process on patients of one age, as often as there are tokens in a folder; then diagnoses them."""

    def __init__(self, tokens: Path, age: float) -> None:
        super().__init__()
        self.tokens, self.age = tokens, age

    def diagnose(self, case: Case):  # type: ignore[no-untyped-def]  # as the model it stands for
        age = case.record.values.get("age_years") if case.record is not None else None
        left = sorted(self.tokens.iterdir()) if age == self.age else []
        if left:
            left[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().diagnose(case)


def _tokens(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / str(number)).touch()
    return folder


def _age(job: Job) -> float:
    """The age of one patient of the cohort, as the records have it."""
    assert job.records is not None
    header, *rows = (line.split(",") for line in job.records.read_text().splitlines())
    column = header.index("age_years")
    return next(float(row[column]) for row in rows if row[column])


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.bad_input("I8")
def test_ray_writes_the_same_bytes_as_one_machine(make_job: MakeJob) -> None:
    summary = diagnose_folder(make_job("ray", engine="ray", workers=2), RuleModel)
    diagnose_folder(make_job("local"), RuleModel)

    assert (summary.cases, summary.refused) == (N_CASES, 0)
    assert set(summary.stages) == {"read", "diagnose", "explain", "write"}
    assert digests(make_job("ray").output) == digests(make_job("local").output)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.bad_input("H7", "H5")
def test_a_case_whose_worker_dies_once_goes_to_another(make_job: MakeJob, tmp_path: Path) -> None:
    tokens, age = _tokens(tmp_path / "tokens", 1), _age(make_job())

    summary = diagnose_folder(make_job("ray", engine="ray", workers=2), lambda device: Deadly(tokens, age))
    diagnose_folder(make_job("local"), RuleModel)

    assert summary.refused == 0
    assert not list(tokens.iterdir())
    assert digests(make_job("ray").output) == digests(make_job("local").output)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.bad_input("H7", "H5")
def test_a_case_that_kills_every_worker_is_refused_and_a_resume_tries_again(make_job: MakeJob, tmp_path: Path) -> None:
    tokens, age = _tokens(tmp_path / "tokens", 2), _age(make_job())

    first = diagnose_folder(make_job("ray", engine="ray"), lambda device: Deadly(tokens, age))
    again = diagnose_folder(make_job("ray", engine="ray", may_resume=True), lambda device: Deadly(tokens, age))

    assert (first.refused, dict(first.refusals)) == (1, {"internal.error": 1})
    assert (again.done_before, again.refused) == (N_CASES - 1, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.bad_input("H2")
def test_a_stopped_run_keeps_what_is_finished_and_another_engine_goes_on(make_job: MakeJob) -> None:
    switch = StopSwitch(grace_s=60)

    def stop(event: Event) -> None:
        if isinstance(event, CaseDone) and not switch.is_on:
            switch.turn_on(signal.SIGTERM)

    with pytest.raises(StopRun):
        diagnose_folder(make_job("ray", engine="ray"), RuleModel, stop, switch)
    kept = len(list((make_job("ray").output / "cases").iterdir()))
    summary = diagnose_folder(make_job("ray", may_resume=True), RuleModel)
    diagnose_folder(make_job("local"), RuleModel)

    assert 1 <= kept < N_CASES
    assert summary.done_before >= 1
    assert digests(make_job("ray").output) == digests(make_job("local").output)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.bad_input("H7")
def test_a_full_object_store_stops_the_run_and_a_resume_goes_on(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    get, calls = ray.get, []

    def full(reference: object) -> object:
        calls.append(reference)
        if len(calls) == 4:  # after the worker's start and two cases
            raise ray.exceptions.ObjectStoreFullError("full of SECRET")
        return get(reference)

    monkeypatch.setattr("ray.get", full)

    with pytest.raises(StopRun, match="cluster failed") as caught:
        diagnose_folder(make_job("ray", engine="ray"), RuleModel)
    summary = diagnose_folder(make_job("ray", may_resume=True), RuleModel)
    diagnose_folder(make_job("local"), RuleModel)

    assert "--resume" in caught.value.remedy
    assert "SECRET" not in str(caught.value)
    assert summary.done_before == 2
    assert digests(make_job("ray").output) == digests(make_job("local").output)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_what_is_wrong_with_a_model_comes_back_as_it_is(make_job: MakeJob) -> None:
    def load(device: str) -> RuleModel:
        raise UsageError("no weights", code="model.incomplete")

    with pytest.raises(UsageError, match="no weights") as caught:
        diagnose_folder(make_job(engine="ray"), load)

    assert caught.value.code == "model.incomplete"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.bad_input("H7")
def test_a_cluster_without_room_for_a_worker_stops_the_run() -> None:
    pool: RayPool[int, int] = RayPool(RuleModel, workers=1, gpus=99, start_s=1)  # type: ignore[arg-type]  # never made

    with pytest.raises(StopRun, match="No worker is left") as caught:
        pool.begin()
    pool.close()

    assert "--resume" in caught.value.remedy
