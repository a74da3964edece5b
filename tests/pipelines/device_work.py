"""Light work for the processes of devices: numbers in, numbers out, and ways to die. Each process imports this."""

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medmm.errors import StopRun, UsageError
from pipelines.engine import Outcome, StopSwitch


@dataclass(frozen=True)
class Work:
    """Doubles numbers, three at a time in its hands. Dies on those that have a token in a folder, taking it along."""

    tokens: Path
    log: Path
    device: str

    def about(self) -> str:
        return self.device

    def run(self, plans: Iterable[int], switch: StopSwitch) -> Iterator[Outcome[int, int]]:
        hands = list[int]()
        for plan in plans:
            hands.append(plan)
            if len(hands) == 3:
                yield self._outcome(hands.pop(0))
        for plan in hands:
            if switch.is_on:
                return
            yield self._outcome(plan)

    def _outcome(self, plan: int) -> Outcome[int, int]:
        for token in sorted(self.tokens.glob(f"{plan}-*"))[:1]:
            token.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open("a") as stream:
            stream.write(f"{self.device} {os.getpid()} {plan}\n")
        if plan == 99:
            raise StopRun("full", code="disk.full")
        return Outcome(plan, 2 * plan)


def fail(device: str) -> Work:
    raise UsageError("no weights", code="model.incomplete")


def die(device: str) -> Work:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")
