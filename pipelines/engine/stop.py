"""Orderly ends: the first Ctrl-C or SIGTERM lets the case in hand finish, a second one, or a deadline, ends at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from medmm.errors import StopRun

GRACE_S = 25.0
EXIT_OF_SIGNAL = {signal.SIGINT: 130, signal.SIGTERM: 3}


class StopSwitch:
    """Whether a run was asked to stop, and by which signal."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self.signal_number: int | None = None
        self._deadline: threading.Timer | None = None

    @property
    def is_on(self) -> bool:
        """Whether no further case should be started."""
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 3 after SIGTERM and for stops that no signal asked for."""
        return EXIT_OF_SIGNAL.get(signal.Signals(self.signal_number or signal.SIGTERM), 3)

    def turn_on(self, signal_number: int) -> None:
        """Ask for an orderly end; the second time, or after the grace period, the process ends here.

        Ending at once is safe: outputs appear by rename and the ledger counts whole lines only.
        """
        if self.is_on:
            os._exit(self.exit_code)
        self.signal_number = signal_number
        self._deadline = threading.Timer(self.grace_s, os._exit, (self.exit_code,))
        self._deadline.daemon = True
        self._deadline.start()

    def disarm(self) -> None:
        """The run has ended in order: forget the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()

    def raise_if_on(self) -> None:
        """Raise where a stop was asked for.

        Raises:
            StopRun: `run.interrupted`.
        """
        if self.is_on:
            raise StopRun(
                "The run was stopped by a signal; what is finished is kept.",
                code="run.interrupted",
                remedy="Run the same command with --resume to go on.",
            )


@contextmanager
def listening(switch: StopSwitch) -> Iterator[StopSwitch]:
    """Let SIGINT and SIGTERM turn the switch; only the main thread can listen, elsewhere this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield switch
        return

    def react(number: int, frame: FrameType | None) -> None:
        switch.turn_on(number)

    previous = {number: signal.signal(number, react) for number in EXIT_OF_SIGNAL}
    try:
        yield switch
    finally:
        switch.disarm()
        for number, handler in previous.items():
            signal.signal(number, handler)
