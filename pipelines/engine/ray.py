"""Plans worked on by actors of a Ray cluster. Each actor holds the model; paths travel, volumes do not.

An actor that dies, with its node or alone, is replaced, and the plan in its hands goes to another one, `TRIES` times in
all; then the plan is refused and the batch goes on. An actor has one plan at a time, so a death is blamed on the right
one. Needs the extra `ray`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from medmm.errors import StopRun, UsageError
from pipelines.engine.attempts import Refused
from pipelines.engine.deaths import START_S, TRIES, Death, no_workers
from pipelines.engine.local import POLL_S, Outcome
from pipelines.engine.stop import StopSwitch

Plan = TypeVar("Plan")
Written = TypeVar("Written")
Plan_contra = TypeVar("Plan_contra", contravariant=True)
Written_co = TypeVar("Written_co", covariant=True)


class Work(Protocol[Plan_contra, Written_co]):
    """What an actor does; made by a function that runs in the actor."""

    def __call__(self, plan: Plan_contra) -> Written_co | Refused:
        """Return what came of a plan; files are written by then."""

    def about(self) -> object:
        """What the driver wants to know of the worker."""


@contextmanager
def cluster() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine; leave or end it afterwards.

    Raises:
        UsageError: `config.key` where Ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise UsageError(
            "The engine `ray` needs the package ray (it is not installed).",
            code="config.key",
            remedy="pip install 'medmm[ray]', or run without --engine ray.",
        ) from None
    if ray.is_initialized():
        yield
        return
    has_address = bool(os.environ.get("RAY_ADDRESS"))
    try:
        ray.init(log_to_driver=False, configure_logging=False, include_dashboard=None if has_address else False)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"No Ray cluster can be reached or started ({type(error).__name__}).",
            code="config.key",
            remedy="Check RAY_ADDRESS; without it a cluster is started on this machine.",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(eq=False)
class _Worker:
    """An actor: starting until `begun` is answered, then free, then with a plan in hand."""

    actor: Any
    due: Any  # reference to the answer that is awaited
    plan: Any = None
    is_starting: bool = True


@dataclass
class RayPool(Generic[Plan, Written]):
    """Actors that hold the model. `begin` waits for the first; `run` works with whatever number is alive.

    `make` is sent to each actor and returns its `Work`; `gpus` is what each actor asks of the cluster.
    """

    make: Callable[[], Work[Plan, Written]]
    workers: int
    gpus: float = 0.0
    start_s: float = START_S
    _alive: list[_Worker] = field(default_factory=list)

    def begin(self) -> object:
        """Start the actors and return what the first one that is ready says about itself.

        Raises:
            MedmmError: What making the work raised.
            StopRun: No actor started in time.
        """
        self._alive = [self._start() for _ in range(self.workers)]
        end = time.monotonic() + self.start_s
        while time.monotonic() < end and self._alive:
            for worker in self._arrived():
                about = self._answer(worker)
                if not isinstance(about, Death):
                    worker.is_starting = False
                    worker.due = None
                    return about
                self._alive.remove(worker)
        raise _none_left()

    def run(self, plans: Iterable[Plan], switch: StopSwitch) -> Iterator[Outcome[Plan, Written]]:
        """Yield the outcome of every plan as it comes; ends early, in order, once the switch is on.

        Raises:
            StopRun: From a worker, or when no worker is left and none starts in time.
        """
        waiting, source = list[Plan](), iter(plans)
        deaths: dict[int, int] = {}
        self._alive += [self._start() for _ in range(self.workers - len(self._alive))]
        last_sign = time.monotonic()
        while True:
            self._hand_out(waiting, source, switch)
            if not any(worker.plan is not None for worker in self._alive) and (switch.is_on or not waiting):
                return
            for worker in self._arrived():
                last_sign = time.monotonic()
                plan, answer = worker.plan, self._answer(worker)
                worker.plan, worker.due = None, None
                if plan is None:  # it has started, or died doing so; then the others go on without it
                    worker.is_starting = False
                    if isinstance(answer, Death):
                        self._alive.remove(worker)
                elif not isinstance(answer, Death):
                    yield Outcome(plan, answer)
                else:
                    self._alive[self._alive.index(worker)] = self._start()
                    deaths[id(plan)] = deaths.get(id(plan), 0) + 1
                    if deaths[id(plan)] < TRIES:
                        waiting.append(plan)
                    else:
                        yield Outcome(plan, answer.refusal())
            if all(worker.is_starting for worker in self._alive) and (
                not self._alive or time.monotonic() - last_sign > self.start_s
            ):
                raise _none_left()

    def close(self) -> None:
        """End the actors."""
        import ray

        for worker in self._alive:
            ray.kill(worker.actor)
        self._alive = []

    def _start(self) -> _Worker:
        import ray

        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
        actor = ray.remote(_Actor).options(**options).remote()
        return _Worker(actor, due=actor.begin.remote(self.make))  # type: ignore[attr-defined]  # Ray makes it

    def _hand_out(self, waiting: list[Plan], source: Iterator[Plan], switch: StopSwitch) -> None:
        """Give every free worker a plan; the plan after the last one in hand is looked at too."""
        if switch.is_on:
            return
        for worker in self._alive:
            if worker.due is None:
                plan = waiting.pop() if waiting else next(source, None)
                if plan is None:
                    return
                worker.plan, worker.due = plan, worker.actor.work.remote(plan)
        if not waiting and (plan := next(source, None)) is not None:
            waiting.append(plan)

    def _arrived(self) -> list[_Worker]:
        """Workers whose answer is there, after waiting a moment."""
        import ray

        due = {worker.due: worker for worker in self._alive if worker.due is not None}
        if not due:
            return []
        ready, _ = ray.wait(list(due), num_returns=1, timeout=POLL_S)
        return [due[one] for one in ready]

    def _answer(self, worker: _Worker) -> Any:
        """What a worker says, or how it died."""
        from ray import exceptions, get

        try:
            return get(worker.due)
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except exceptions.OutOfMemoryError:
            return Death("limit.memory")
        except (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError):
            return Death()
        except exceptions.RayError as error:
            raise StopRun(
                f"The Ray cluster failed ({type(error).__name__}); what is finished is kept.",
                code="run.interrupted",
                remedy="Check the cluster, then run the same command with --resume.",
            ) from None


class _Actor:
    """One process of the cluster. Loading is no part of its making, so that what is wrong comes back as it is."""

    def begin(self, make: Callable[[], Work[Any, Any]]) -> object:
        self._work = make()
        return self._work.about()

    def work(self, plan: Any) -> Any:
        return self._work(plan)


def _none_left() -> StopRun:
    return no_workers("Check the cluster (`ray status`), then run the same command with --resume.")
