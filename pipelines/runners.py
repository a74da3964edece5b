"""Where the cases of a run are worked on: in this process, in one for each device, or by the workers of a Ray cluster.

A runner knows the model's `spec` and `device` and yields how each case ended. All kinds do the same steps with the
same code, so results are the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from medmm.cases import CasePlan
from medmm.errors import UsageError
from pipelines.case_output import CaseWriter, Written
from pipelines.config import RunConfig, RunLimits
from pipelines.engine import Outcome, Refused, StageClock, StopSwitch, run_local
from pipelines.engine.devices import DevicePool
from pipelines.engine.ray import RayPool, cluster
from pipelines.judge import CaseReader, DiagnosesCases, Judge, Load, preload
from pipelines.output import OutputFolder, Owner

if TYPE_CHECKING:
    from medmm.diagnose import ModelSpec

ALL_GPUS = "cuda:all"
Outcomes = Iterator[Outcome[CasePlan, Written]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What working on a case needs besides the model. `owner` is the process that holds the folder."""

    folder: OutputFolder
    owner: Owner
    config: RunConfig
    limits: RunLimits
    workers: int


class Runner(Protocol):
    """Works on cases with one model."""

    @property
    def spec(self) -> "ModelSpec":
        """What the model reads."""

    @property
    def device(self) -> object:
        """Where it runs; its text names the device."""

    def run(self, plans: Iterable[CasePlan], clock: StageClock, switch: StopSwitch) -> Outcomes:
        """Yield how each case ended; its files are on the disk by then."""


OpenRunner = Callable[[str, Load, Setting, str], AbstractContextManager[Runner]]  # as `open_runner`


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """The model in this process, readers and a writer beside it."""

    model: DiagnosesCases
    setting: Setting

    @property
    def spec(self) -> "ModelSpec":
        """What the model reads."""
        return self.model.spec

    @property
    def device(self) -> object:
        """Where it runs."""
        return self.model.device

    def run(self, plans: Iterable[CasePlan], clock: StageClock, switch: StopSwitch) -> Outcomes:
        """Yield outcomes in the order of the plans."""
        setting = self.setting
        preload()
        return run_local(
            plans,
            read=CaseReader(setting.limits.for_dicom(), clock).read,
            judge=Judge(self.model, setting.config, clock).judge,
            size=self.model.size_of,
            write=CaseWriter(setting.folder, setting.owner, setting.config, clock).write,
            workers=setting.workers,
            switch=switch,
        )


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker sends back: how the case ended, and the seconds per stage since the case before."""

    result: Written | Refused
    stages: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class About:
    """What a worker says of its model."""

    spec: "ModelSpec"
    device: str


class RayWork:
    """All steps of one case, one after the other; a Ray worker holds one."""

    def __init__(self, model: DiagnosesCases, setting: Setting) -> None:
        preload()
        self.model, self.setting = model, setting

    def about(self) -> About:
        """The model's spec and device."""
        return About(self.model.spec, str(self.model.device))

    def __call__(self, plan: CasePlan) -> Worked:
        """Read, diagnose, explain and write a case."""
        setting, clock = self.setting, StageClock()
        case = CaseReader(setting.limits.for_dicom(), clock).read(plan)
        judged = case if isinstance(case, Refused) else Judge(self.model, setting.config, clock).judge([case])[0]
        if isinstance(judged, Refused):
            return Worked(judged, clock.take())
        return Worked(
            CaseWriter(setting.folder, setting.owner, setting.config, clock).write(plan, judged), clock.take()
        )


class RunnerOfDevice:
    """A local runner in the process of one device."""

    def __init__(self, load: Load, setting: Setting, device: str) -> None:
        self._local = LocalRunner(load(device), setting)

    def about(self) -> About:
        """The model's spec and device."""
        return About(self._local.spec, str(self._local.device))

    def run(self, plans: Iterable[CasePlan], switch: StopSwitch) -> Iterator[Outcome[CasePlan, Worked]]:
        """Yield outcomes in the order of the plans."""
        clock = StageClock()
        for outcome in self._local.run(plans, clock, switch):
            yield Outcome(outcome.plan, Worked(outcome.result, clock.take()))


class Pool(Protocol):
    """Workers that hold the model, in processes of this machine or of a cluster."""

    def run(self, plans: Iterable[CasePlan], switch: StopSwitch) -> Iterator[Outcome[CasePlan, Worked]]:
        """Yield outcomes as they come."""


@dataclass(frozen=True, slots=True)
class PoolRunner:
    """The model in every worker of a pool; the output folder is one that all of them see."""

    pool: Pool
    about: About

    @property
    def spec(self) -> "ModelSpec":
        """What the model reads."""
        return self.about.spec

    @property
    def device(self) -> object:
        """Where it runs."""
        return self.about.device

    def run(self, plans: Iterable[CasePlan], clock: StageClock, switch: StopSwitch) -> Outcomes:
        """Yield outcomes as they come."""
        for outcome in self.pool.run(plans, switch):
            if isinstance(outcome.result, Refused):
                yield Outcome(outcome.plan, outcome.result)
                continue
            clock.merge(outcome.result.stages)
            yield Outcome(outcome.plan, outcome.result.result)


@contextmanager
def open_runner(engine: str, load: Load, setting: Setting, device: str = "auto") -> Iterator[Runner]:
    """Load the model where the engine wants it.

    Args:
        engine: `local` or `ray`.
        load: Puts the model on a device; for `ray` and for several devices it is sent to the workers.
        setting: For every case.
        device: As `devices_of` takes it. `cpu` asks a cluster for no GPU; otherwise each worker gets one where there
            are some.
    Raises:
        UsageError: What is wrong with the model, the devices or the cluster.
    """
    devices = devices_of(device)
    if engine == "local" and len(devices) == 1:
        yield LocalRunner(load(devices[0]), setting)
        return
    if engine == "local":
        each = replace(setting, workers=max(1, setting.workers // len(devices)))
        with closing(DevicePool(partial(RunnerOfDevice, load, each), devices)) as pool:
            yield _pool_runner(pool)
        return
    if len(devices) > 1:
        raise UsageError(
            "Expected one --device with --engine ray (got several).",
            code="config.key",
            remedy="Each worker takes a GPU where there are some; --workers says how many there are.",
        )
    with cluster():
        import ray

        has_gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        make = partial(_ray_work, load, setting, device)
        with closing(RayPool[CasePlan, Worked](make, workers=setting.workers, gpus=float(has_gpu))) as workers:
            yield _pool_runner(workers)


def devices_of(text: str) -> tuple[str, ...]:
    """Return the devices that `--device` names: one, several with commas between them, or `cuda:all`.

    Raises:
        UsageError: `device.none` for an empty name, for devices of several kinds, and where there is no GPU at all.
    """
    if text == ALL_GPUS:
        from medmm.device import list_gpus

        return list_gpus()
    devices = tuple(name.strip() for name in text.split(","))
    if len(devices) > 1 and (not all(devices) or len({name.partition(":")[0] for name in devices}) > 1):
        raise UsageError(
            "Expected devices of one kind (results of a CPU and a GPU differ in the last digits).",
            code="device.none",
            remedy="For example --device cuda:0,cuda:1.",
        )
    return devices


def _pool_runner(pool: DevicePool[CasePlan, Worked] | RayPool[CasePlan, Worked]) -> PoolRunner:
    about = pool.begin()
    assert isinstance(about, About)
    return PoolRunner(pool, about)


def _ray_work(load: Load, setting: Setting, device: str) -> RayWork:
    return RayWork(load(device), setting)
