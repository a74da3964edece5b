"""Stages: order, bounds, stops, retries, and what a failure of one case is."""

import errno
import threading
import time

import pytest

from medmm.errors import InputError, StopRun, UsageError
from pipelines.engine import Refused, StageClock, StopSwitch, attempt, run_local
from pipelines.engine.attempts import READ_TRIES
from pipelines.engine.local import WRITE_BACKLOG


def _raise(error: BaseException) -> None:
    raise error


def test_outcomes_keep_the_order_of_the_plans_whatever_takes_long() -> None:
    def read(plan: int) -> int:
        time.sleep(0.02 if plan % 3 == 0 else 0)
        return plan

    outcomes = run_local(
        range(20), read=read, judge=lambda case: case * 10, write=lambda plan, judged: judged + 1, workers=4,
        switch=StopSwitch(),
    )  # fmt: skip

    assert [(outcome.plan, outcome.result) for outcome in outcomes] == [(n, n * 10 + 1) for n in range(20)]


def test_a_case_refused_at_any_stage_is_passed_on_and_later_stages_are_spared() -> None:
    refused = Refused(stage="read", code="dicom.truncated", reason="cut")
    judged, written = [], []

    outcomes = list(
        run_local(
            range(4),
            read=lambda plan: refused if plan == 1 else plan,
            judge=lambda case: judged.append(case) or (refused if case == 2 else case),
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

    list(run_local(range(40), read=read, judge=lambda case: case, write=write, workers=workers, switch=StopSwitch()))

    # Read ahead, in the model's hands, being written, waiting to be written.
    assert most <= (workers + 1) + 1 + 1 + WRITE_BACKLOG


def test_a_stop_finishes_the_case_in_hand_and_starts_no_other() -> None:
    switch = StopSwitch(grace_s=60)
    written = []

    def judge(case: int) -> int:
        if case == 3:
            switch.turn_on(15)
        return case

    outcomes = list(
        run_local(
            range(100), read=lambda plan: plan, judge=judge, write=lambda plan, case: written.append(plan) or case,
            workers=2, switch=switch,
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
            range(3), read=lambda plan: release.wait(20), judge=lambda case: case, write=lambda plan, case: case,
            workers=1, switch=switch,
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
                judge=lambda case: case,
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
