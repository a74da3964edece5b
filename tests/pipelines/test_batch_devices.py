"""One local run on several devices: the same results as on one, and a batch that outlives a device's process.

CPUs stand for GPUs here: `cpu,cpu` are two processes that hold a model each.
"""

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest
from batch_cohort import N_CASES, digests
from device_work import Work, die, fail
from rule_model import RuleModel

from medmm.errors import StopRun, UsageError
from medmm.results import Diagnosis
from medmm.types import Case
from pipelines.diagnose import Job, diagnose_folder
from pipelines.engine import Refused, StopSwitch
from pipelines.engine.devices import DevicePool
from pipelines.runners import devices_of

MakeJob = Callable[..., Job]


@pytest.fixture
def make_work(tmp_path: Path) -> Callable[[str], Work]:
    """Makes the work of a device."""
    (tmp_path / "tokens").mkdir()
    return partial(Work, tmp_path / "tokens", tmp_path / "log")


def _run(make: Callable[[str], Work], plans: Iterable[int], devices: str = "cpu:0,cpu:1") -> dict[int, object]:
    pool = DevicePool[int, int](make, devices.split(","))
    try:
        pool.begin()
        return {outcome.plan: outcome.result for outcome in pool.run(plans, StopSwitch())}
    finally:
        pool.close()


def test_every_plan_is_done_once_and_devices_share_the_work(make_work: Callable[[str], Work], tmp_path: Path) -> None:
    results = _run(make_work, range(40))

    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert results == {plan: 2 * plan for plan in range(40)}
    assert sorted(int(plan) for _, _, plan in lines) == list(range(40))
    assert {device for device, _, _ in lines} <= {"cpu:0", "cpu:1"}


@pytest.mark.bad_input("H5")
def test_a_process_that_dies_costs_its_plans_a_retry_and_no_more(
    make_work: Callable[[str], Work], tmp_path: Path
) -> None:
    (tmp_path / "tokens" / "5-a").touch()

    results = _run(make_work, range(12), "cpu")

    pids = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    assert results == {plan: 2 * plan for plan in range(12)}
    assert len(pids) == 2


@pytest.mark.bad_input("H5")
def test_only_the_plan_that_kills_every_process_is_refused(make_work: Callable[[str], Work], tmp_path: Path) -> None:
    for letter in "ab":
        (tmp_path / "tokens" / f"5-{letter}").touch()
        (tmp_path / "tokens" / f"6-{letter}").touch()

    results = _run(make_work, range(12))

    refused = {plan for plan, result in results.items() if isinstance(result, Refused)}
    assert refused == {5, 6}
    assert {plan: result for plan, result in results.items() if plan not in refused} == {
        plan: 2 * plan for plan in range(12) if plan not in refused
    }


def test_what_ends_one_process_ends_the_run_and_leaves_none_behind(make_work: Callable[[str], Work]) -> None:
    with pytest.raises(StopRun, match="full"):
        _run(make_work, [1, 2, 3, 99, 4, 5])

    assert not [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]


def test_a_pool_can_run_again(make_work: Callable[[str], Work]) -> None:
    pool = DevicePool[int, int](make_work, ["cpu", "cpu"])
    pool.begin()

    rounds = [sorted(outcome.result for outcome in pool.run(plans, StopSwitch())) for plans in ([1, 2], [], [3])]  # type: ignore[type-var]  # none is refused
    pool.close()

    assert rounds == [[2, 4], [], [6]]


def test_what_is_wrong_with_a_model_comes_back_as_it_is() -> None:
    with pytest.raises(UsageError, match="no weights"):
        _run(fail, range(3))


def test_a_run_without_any_process_left_says_so() -> None:
    with pytest.raises(StopRun, match="No worker is left") as caught:
        _run(die, range(3))

    assert "--resume" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "devices"), [("auto", ("auto",)), ("cuda:1", ("cuda:1",)), ("cuda:0, cuda:2", ("cuda:0", "cuda:2"))]
)
def test_devices_are_named_one_by_one(text: str, devices: tuple[str, ...]) -> None:
    assert devices_of(text) == devices


@pytest.mark.parametrize("text", ["cpu,cuda:0", "cuda:0,", ","])
def test_devices_of_several_kinds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="one kind"):
        devices_of(text)


def test_all_gpus_are_asked_for_by_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)

    assert devices_of("cuda:all") == ("cuda:0", "cuda:1", "cuda:2")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="CUDA"):
        devices_of("cuda:all")


class Deadly(RuleModel):
    """Kills its process on the case that it is given a token for, as often as there are tokens."""

    def __init__(self, tokens: Path, device: str) -> None:
        super().__init__(device)
        self.tokens = tokens

    def diagnose(self, case: Case) -> Diagnosis:
        for token in sorted(self.tokens.glob(f"{case.case_id}-*"))[:1]:
            token.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().diagnose(case)


@pytest.mark.slow
def test_two_devices_write_the_same_bytes_as_one(make_job: MakeJob) -> None:
    summary = diagnose_folder(make_job("two", device="cpu,cpu", workers=2), RuleModel)
    diagnose_folder(make_job("one"), RuleModel)

    assert (summary.cases, summary.refused) == (N_CASES, 0)
    assert set(summary.stages) == {"read", "diagnose", "explain", "write"}
    assert {values["cases"] for values in summary.stages.values()} == {N_CASES}
    assert digests(make_job("two").output) == digests(make_job("one").output)


@pytest.mark.slow
@pytest.mark.bad_input("H5")
def test_a_device_that_dies_costs_a_retry_and_not_the_batch(make_job: MakeJob, tmp_path: Path) -> None:
    diagnose_folder(make_job("one"), RuleModel)
    case_ids = sorted(path.name for path in (make_job("one").output / "cases").iterdir())
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / f"{case_ids[0]}-a").touch()
    for letter in "ab":
        (tokens / f"{case_ids[-1]}-{letter}").touch()
    two = partial(make_job, "two", device="cpu,cpu", workers=2)

    first = diagnose_folder(two(), partial(Deadly, tokens))
    again = diagnose_folder(two(may_resume=True), RuleModel)

    assert not list(tokens.iterdir())
    assert dict(first.refusals) == {"internal.error": 1}
    assert (again.done_before, again.refused) == (N_CASES - 1, 0)
    assert digests(two().output) == digests(make_job("one").output)


@pytest.mark.bad_input("H2")
def test_a_stop_keeps_what_is_finished_and_begins_nothing_new(make_work: Callable[[str], Work], tmp_path: Path) -> None:
    switch, kept = StopSwitch(grace_s=60), list[int]()

    with closing(DevicePool[int, int](make_work, ["cpu", "cpu"])) as pool:
        pool.begin()
        for outcome in pool.run(range(10_000), switch):
            kept.append(outcome.plan)
            if not switch.is_on:
                switch.turn_on(signal.SIGTERM)
    switch.disarm()

    assert 1 <= len(kept) < 10_000
    assert sorted(kept) == sorted(int(line.split()[2]) for line in (tmp_path / "log").read_text().splitlines())
