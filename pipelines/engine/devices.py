"""One local run on several devices: a process for each, which holds the model and works as a run on one device does.

Processes ask for plans as they have room, so that a fast device gets more of them; the driver keeps what is left. A
process that dies is replaced. Which of the plans in its hands was to blame is not known, so each of them is tried again
alone; one on which `TRIES` processes died is refused and the batch goes on.
"""

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Literal, Protocol, TypeVar

from medmm.errors import MedmmError
from pipelines.engine.deaths import START_S, TRIES, Death, no_workers
from pipelines.engine.local import POLL_S, Outcome
from pipelines.engine.stop import StopSwitch

END_S = 5.0

Plan = TypeVar("Plan")
Written = TypeVar("Written")


class DeviceWork(Protocol[Plan, Written]):
    """A model on its device with all stages; made by a function that runs in the process of the device."""

    def about(self) -> object:
        """What the driver wants to know of the model."""

    def run(self, plans: Iterable[Plan], switch: StopSwitch) -> Iterator[Outcome[Plan, Written]]:
        """Yield how each plan ended, in order; may look ahead in `plans`."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a process tells the driver: `ready` (about), `wants` a plan, `ended` (number, result), `idle`, `failed`."""

    what: Literal["ready", "wants", "ended", "idle", "failed"]
    value: Any = None


@dataclass(frozen=True, slots=True)
class _Dealt(Generic[Plan]):
    """A plan for a process. Instead of one, None ends a session, and begins the next."""

    number: int
    plan: Plan


class _Stop:
    """Finish what is in the model's hands, drop the rest."""


@dataclass(eq=False)
class _Process(Generic[Plan]):
    """A process as the driver sees it. `is_alone`: this session is for the one plan in hand."""

    device: str
    process: SpawnProcess
    pipe: "Connection[Any, Any]"
    in_hand: dict[int, Plan] = field(default_factory=dict)
    is_idle: bool = False
    is_alone: bool = False

    def say(self, message: object) -> None:
        """Tell it something; one that is gone is noticed when it is listened to."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)


class DevicePool(Generic[Plan, Written]):
    """Processes that hold the model. `begin` waits for the first; `run` works with those that are alive.

    `make` is sent to each process with its device; it, what it holds, plans and results have to be picklable.
    """

    def __init__(
        self, make: Callable[[str], DeviceWork[Plan, Written]], devices: Iterable[str], start_s: float = START_S
    ) -> None:
        self._make, self._devices, self._start_s = make, tuple(devices), start_s
        self._alive: list[_Process[Plan]] = []
        self._numbers = itertools.count()
        self._source: Iterator[Plan] = iter(())
        self._next: Plan | None = None
        self._suspects: deque[_Dealt[Plan]] = deque()
        self._deaths: dict[int, int] = {}

    def begin(self) -> object:
        """Start the processes and return what the first one that is ready says about its model.

        Raises:
            MedmmError: What making the work raised.
            StopRun: No process started in time.
        """
        self._alive = [self._start(device) for device in self._devices]
        end = time.monotonic() + self._start_s
        while time.monotonic() < end and self._alive:
            for one in self._speaking():
                said = self._hear(one)
                if said is None:
                    self._alive.remove(one)
                else:
                    return said.value
        raise _none_left()

    def run(self, plans: Iterable[Plan], switch: StopSwitch) -> Iterator[Outcome[Plan, Written]]:
        """Yield the outcome of every plan as it comes; ends early, in order, once the switch is on.

        Raises:
            StopRun: From a process (a full disk), or when none is left.
        """
        self._source = iter(plans)
        self._next = next(self._source, None)
        is_told = False
        while self._is_at_work(switch):
            if switch.is_on and not is_told:
                is_told = True
                for one in self._alive:
                    one.say(_Stop())
            for one in self._alive:
                if one.is_idle and self._has_more(switch):
                    one.is_idle = False
                    one.say(None)
            for one in self._speaking():
                yield from self._react(one, self._hear(one), switch)

    def close(self) -> None:
        """End the processes; they notice that nobody listens."""
        for one in self._alive:
            one.pipe.close()
        for one in self._alive:
            one.process.join(END_S)
            one.process.kill()
            one.process.join()
            one.process.close()
        self._alive = []

    def _is_at_work(self, switch: StopSwitch) -> bool:
        if any(one.in_hand for one in self._alive):
            return True
        if not self._has_more(switch):
            return False
        if not self._alive:
            raise _none_left()
        return True

    def _has_more(self, switch: StopSwitch) -> bool:
        return not switch.is_on and (self._next is not None or bool(self._suspects))

    def _react(self, one: _Process[Plan], said: _Said | None, switch: StopSwitch) -> Iterator[Outcome[Plan, Written]]:
        if said is None:
            yield from self._bury(one, switch)
        elif said.what == "wants":
            one.say(self._deal(one, switch))
        elif said.what == "ended":
            number, result = said.value
            yield Outcome(one.in_hand.pop(number), result)
        elif said.what == "idle":  # what it still has was dropped because of a stop
            one.in_hand.clear()
            one.is_idle, one.is_alone = True, False

    def _deal(self, one: _Process[Plan], switch: StopSwitch) -> _Dealt[Plan] | None:
        """The next plan for a process, or None: no more in this session."""
        if one.is_alone or not self._has_more(switch):
            return None
        if self._suspects and not one.in_hand:
            one.is_alone, dealt = True, self._suspects.popleft()
        elif self._next is not None:
            dealt = _Dealt(next(self._numbers), self._next)
            self._next = next(self._source, None)
        else:
            return None
        one.in_hand[dealt.number] = dealt.plan
        return dealt

    def _bury(self, one: _Process[Plan], switch: StopSwitch) -> Iterator[Outcome[Plan, Written]]:
        """Replace a process that died at work; each plan in its hands is tried alone, or refused."""
        self._alive.remove(one)
        if one.in_hand and not switch.is_on:
            self._alive.append(self._start(one.device))
        for number, plan in one.in_hand.items():
            self._deaths[number] = self._deaths.get(number, 0) + 1
            if self._deaths[number] < TRIES:
                self._suspects.append(_Dealt(number, plan))
            else:
                yield Outcome(plan, Death().refusal())

    def _start(self, device: str) -> _Process[Plan]:
        context = multiprocessing.get_context("spawn")  # a GPU cannot be used after a fork
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._make, device), name=f"medmm {device}")
        process.start()
        theirs.close()  # so that its end is heard when the process dies
        return _Process(device, process, ours)

    def _speaking(self) -> list[_Process[Plan]]:
        """Processes that have said something, or died, after waiting a moment."""
        ready = wait([one.pipe for one in self._alive], POLL_S)
        return [one for one in self._alive if one.pipe in ready]

    def _hear(self, one: _Process[Plan]) -> _Said | None:
        """What a process says; None where it is dead.

        Raises:
            MedmmError: What ended its work.
        """
        try:
            said = one.pipe.recv()
        except (EOFError, OSError):
            one.pipe.close()
            one.process.join()
            one.process.close()
            return None
        assert isinstance(said, _Said)
        if said.what == "failed":
            raise said.value
        return said


def _serve(pipe: "Connection[Any, Any]", make: Callable[[str], DeviceWork[Plan, Written]], device: str) -> None:
    """The life of a process. Signals are for the driver, and nothing is printed: errors may name a patient."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    switch, inbox = StopSwitch(), queue.SimpleQueue[_Dealt[Plan] | None]()
    threading.Thread(target=_listen, args=(pipe, inbox, switch), daemon=True).start()
    try:
        work = make(device)
        pipe.send(_Said("ready", work.about()))
        while True:
            numbers: deque[int] = deque()
            for outcome in work.run(_dealt(pipe, inbox, numbers), switch):
                pipe.send(_Said("ended", (numbers.popleft(), outcome.result)))
            pipe.send(_Said("idle"))
            inbox.get()  # until there is more
    except MedmmError as error:
        pipe.send(_Said("failed", error))


def _dealt(
    pipe: "Connection[Any, Any]", inbox: "queue.SimpleQueue[_Dealt[Plan] | None]", numbers: deque[int]
) -> Iterator[Plan]:
    """Ask for one plan after the other, until there is none for this session."""
    while True:
        pipe.send(_Said("wants"))
        dealt = inbox.get()
        if dealt is None:
            return
        numbers.append(dealt.number)
        yield dealt.plan


def _listen(pipe: "Connection[Any, Any]", inbox: "queue.SimpleQueue[_Dealt[Plan] | None]", switch: StopSwitch) -> None:
    """Hear the driver at any time; end with it, so that nobody writes into a folder that another run may take."""
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(message, _Stop):
            switch.turn_on(signal.SIGTERM)
        else:
            inbox.put(message)


def _none_left() -> MedmmError:
    return no_workers("Check the devices (`medmm doctor`), then run the same command with --resume.")
