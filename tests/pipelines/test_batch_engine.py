"""Stages: order, bounds, stops, retries, and what a failure of one case is."""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from medmm.errors import InputError, StopRun, UsageError
from pipelines.engine import Refused, StageClock, StopSwitch, attempt, run_local
from pipelines.engine.attempts import READ_TRIES
from pipelines.engine.local import MOST_AHEAD, WRITE_BACKLOG


def _raise(error: BaseException) -> None:
    raise error


def one_by_one(judge: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """A model that cases do not share."""
    return lambda cases: [judge(case) for case in cases]


def test_outcomes_keep_the_order_of_the_plans_whatever_takes_long() -> None:
    def read(plan: int) -> int:
        time.sleep(0.02 if plan % 3 == 0 else 0)
        return plan

    outcomes = run_local(
        range(20), read=read, judge=one_by_one(lambda case: case * 10), write=lambda plan, judged: judged + 1,
        workers=4, switch=StopSwitch(),
    )  # fmt: skip

    assert [(outcome.plan, outcome.result) for outcome in outcomes] == [(n, n * 10 + 1) for n in range(20)]


def test_a_case_refused_at_any_stage_is_passed_on_and_later_stages_are_spared() -> None:
    refused = Refused(stage="read", code="dicom.truncated", reason="cut")
    judged, written = [], []

    outcomes = list(
        run_local(
            range(4),
            read=lambda plan: refused if plan == 1 else plan,
            judge=one_by_one(lambda case: judged.append(case) or (refused if case == 2 else case)),
            write=lambda plan, case: written.append(plan) or case,
            workers=2,
            switch=StopSwitch(),
        )
    )

    assert [isinstance(outcome.result, Refused) for outcome in outcomes] == [False, True, True, False]
    assert judged == [0, 2, 3]
    assert written == [0, 3]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_is_read_ahead_than_there_is_room_for(workers: int) -> None:
    lock, alive, most = threading.Lock(), set(), 0

    def read(plan: int) -> int:
        nonlocal most
        with lock:
            alive.add(plan)
            most = max(most, len(alive))
        return plan

    def write(plan: int, case: int) -> int:
        time.sleep(0.005)
        with lock:
            alive.discard(plan)
        return case

    list(
        run_local(
            range(40), read=read, judge=one_by_one(lambda case: case), write=write, workers=workers, switch=StopSwitch()
        )
    )

    # Read ahead, in the model's hands, being written, waiting to be written.
    assert most <= workers + 1 + 1 + WRITE_BACKLOG


def _batches(sizes: Sequence[float], *, arrive: int) -> list[list[int]]:
    """Which cases of these sizes were judged together, where the first is judged once `arrive` have been read."""
    batches, read_ahead, lock = list[list[int]](), threading.Event(), threading.Lock()
    arrived = 0

    def read(plan: int) -> int:
        nonlocal arrived
        if plan == 0:
            read_ahead.wait(10)
        with lock:
            arrived += 1
            if arrived >= arrive - 1:
                read_ahead.set()
        return plan

    def judge(cases: Sequence[int]) -> list[int]:
        batches.append(list(cases))
        return [case * 10 for case in cases]

    outcomes = list(
        run_local(
            range(len(sizes)), read=read, judge=judge, write=lambda plan, judged: judged, workers=2,
            size=lambda case: sizes[case], switch=StopSwitch(),
        )
    )  # fmt: skip

    assert [outcome.result for outcome in outcomes] == [10 * plan for plan in range(len(sizes))]
    return batches


def test_small_cases_that_have_been_read_are_judged_together_as_far_as_they_fit() -> None:
    first, *_ = _batches([0.3] * 6, arrive=3)

    assert first == [0, 1, 2]


def test_a_large_case_is_judged_alone() -> None:
    assert [0] in _batches([4.0, 0.1, 0.1, 0.1], arrive=3)
    assert [1] in _batches([0.1, 4.0, 0.1, 0.1], arrive=3)


@pytest.mark.parametrize(("size", "most"), [(0.125, 8), (0.0, MOST_AHEAD), (2.0, 1)])
def test_cases_are_read_ahead_until_they_fill_a_pass(size: float, most: int) -> None:
    largest = 0

    def judge(cases: Sequence[int]) -> list[int]:
        nonlocal largest
        largest = max(largest, len(cases))
        time.sleep(0.05)  # long enough to read what there is room for
        return list(cases)

    list(
        run_local(
            range(60), read=lambda plan: plan, judge=judge, write=lambda plan, case: case, workers=1,
            size=lambda case: size, switch=StopSwitch(),
        )
    )  # fmt: skip

    assert largest == most


def test_a_refused_case_does_not_break_up_a_batch() -> None:
    refused = Refused(stage="read", code="dicom.truncated", reason="cut")
    batches: list[int] = []

    outcomes = list(
        run_local(
            range(8),
            read=lambda plan: refused if plan % 2 else plan,
            judge=lambda cases: batches.extend(cases) or list(cases),
            write=lambda plan, case: case,
            workers=1,
            size=lambda case: 0.01,
            switch=StopSwitch(),
        )
    )

    assert [outcome.result for outcome in outcomes] == [0, refused, 2, refused, 4, refused, 6, refused]
    assert batches == [0, 2, 4, 6]


def test_a_stop_finishes_the_case_in_hand_and_starts_no_other() -> None:
    switch = StopSwitch(grace_s=60)
    written = []

    def judge(case: int) -> int:
        if case == 3:
            switch.turn_on(15)
        return case

    outcomes = list(
        run_local(
            range(100), read=lambda plan: plan, judge=one_by_one(judge),
            write=lambda plan, case: written.append(plan) or case, workers=2, switch=switch,
        )
    )  # fmt: skip
    switch.disarm()

    assert [outcome.plan for outcome in outcomes] == written == [0, 1, 2, 3]
    assert switch.exit_code == 3


@pytest.mark.bad_input("H2")
def test_a_stop_does_not_wait_for_a_reader_that_hangs() -> None:
    switch, release = StopSwitch(grace_s=60), threading.Event()
    timer = threading.Timer(0.3, switch.turn_on, (2,))
    timer.start()
    started = time.monotonic()

    outcomes = list(
        run_local(
            range(3), read=lambda plan: release.wait(20), judge=one_by_one(lambda case: case),
            write=lambda plan, case: case, workers=1, switch=switch,
        )
    )  # fmt: skip
    seconds = time.monotonic() - started
    release.set()
    switch.disarm()

    assert outcomes == []
    assert seconds < 5
    assert switch.exit_code == 130


@pytest.mark.parametrize("stage", ["read", "write"])
def test_a_full_disk_ends_the_batch(stage: str) -> None:
    def fail(*_: object) -> int:
        raise StopRun("full", code="disk.full")

    with pytest.raises(StopRun):
        list(
            run_local(
                range(5),
                read=fail if stage == "read" else lambda plan: plan,
                judge=one_by_one(lambda case: case),
                write=fail if stage == "write" else lambda plan, case: case,
                workers=2,
                switch=StopSwitch(),
            )
        )


@pytest.mark.bad_input("B16")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("cut", code="dicom.truncated"), "dicom.truncated"),
        (UsageError("other graph", code="kg.version"), "kg.version"),
        (MemoryError(), "limit.memory"),
        (PermissionError(errno.EACCES, "no"), "io.read"),
        (ZeroDivisionError("PATIENT NAME"), "internal.error"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "limit.gpu_memory"),
    ],
)
def test_every_error_of_a_case_becomes_a_code(error: Exception, code: str) -> None:
    refused = attempt("read", lambda: _raise(error))

    assert isinstance(refused, Refused)
    assert refused.code == code
    assert "PATIENT" not in refused.reason + refused.remedy


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_matter_of_one_case(number: int) -> None:
    with pytest.raises(StopRun) as caught:
        attempt("write", lambda: _raise(OSError(number, "full")))

    assert caught.value.code == "disk.full"


@pytest.mark.bad_input("H11")
@pytest.mark.parametrize("failures", [1, READ_TRIES - 1, READ_TRIES])
def test_network_disks_get_another_chance_but_not_for_ever(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.engine.attempts.RETRY_WAIT_S", 0.0)
    tries = []

    def read() -> str:
        tries.append(1)
        if len(tries) <= failures:
            raise OSError(errno.ESTALE, "stale file handle")
        return "case"

    result = attempt("read", read)

    assert len(tries) == min(failures + 1, READ_TRIES)
    assert (result == "case") == (failures < READ_TRIES)


def test_interrupts_are_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        attempt("read", lambda: _raise(KeyboardInterrupt()))


def test_the_clock_adds_up_over_threads() -> None:
    clock = StageClock()
    threads = [threading.Thread(target=clock.add, args=("read", 0.5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clock.table() == {"read": {"cases": 8, "total_s": 4.0, "mean_s": 0.5}}
