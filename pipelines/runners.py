"""Where the cases of a run are worked on: on this machine, or by the workers of a Ray cluster.

A runner knows the model's `spec` and `device` and yields how each case ended. Both kinds do the same steps with the
same code, so results are the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from medmm.cases import CasePlan
from pipelines.case_output import CaseWriter, Written
from pipelines.config import RunConfig, RunLimits
from pipelines.engine import Outcome, Refused, StageClock, StopSwitch, run_local
from pipelines.engine.ray import RayPool, cluster
from pipelines.judge import CaseReader, DiagnosesCases, Judge, preload
from pipelines.output import OutputFolder

if TYPE_CHECKING:
    from medmm.diagnose import ModelSpec

Load = Callable[[], DiagnosesCases]
Outcomes = Iterator[Outcome[CasePlan, Written]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What working on a case needs besides the model."""

    folder: OutputFolder
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

    def run(self, plans: Sequence[CasePlan], clock: StageClock, switch: StopSwitch) -> Outcomes:
        """Yield how each case ended; its files are on the disk by then."""


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

    def run(self, plans: Sequence[CasePlan], clock: StageClock, switch: StopSwitch) -> Outcomes:
        """Yield outcomes in the order of the plans."""
        setting = self.setting
        preload()
        return run_local(
            plans,
            read=CaseReader(setting.limits.for_dicom(), clock).read,
            judge=Judge(self.model, setting.config, clock).judge,
            write=CaseWriter(setting.folder, setting.config, clock).write,
            workers=setting.workers,
            switch=switch,
        )


@dataclass(frozen=True, slots=True)
class Worked:
    """What a Ray worker sends back: how the case ended, and the seconds per stage."""

    result: Written | Refused
    stages: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class About:
    """What a Ray worker says of its model."""

    spec: "ModelSpec"
    device: str


class CaseWork:
    """All steps of one case in one process; a Ray worker holds one."""

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
        judged = case if isinstance(case, Refused) else Judge(self.model, setting.config, clock).judge(case)
        if isinstance(judged, Refused):
            return Worked(judged, clock.table())
        return Worked(CaseWriter(setting.folder, setting.config, clock).write(plan, judged), clock.table())


@dataclass(frozen=True, slots=True)
class RayRunner:
    """The model in every worker of a Ray cluster; the output folder is one that all of them see."""

    pool: RayPool[CasePlan, Any]
    about: About
    setting: Setting = field(repr=False)

    @property
    def spec(self) -> "ModelSpec":
        """What the model reads."""
        return self.about.spec

    @property
    def device(self) -> object:
        """Where it runs."""
        return self.about.device

    def run(self, plans: Sequence[CasePlan], clock: StageClock, switch: StopSwitch) -> Outcomes:
        """Yield outcomes as they come."""
        for outcome in self.pool.run(plans, switch):
            if isinstance(outcome.result, Refused):
                yield outcome
                continue
            clock.merge(outcome.result.stages)
            yield Outcome(outcome.plan, outcome.result.result)


@contextmanager
def open_runner(engine: str, load: Load, setting: Setting, device: str = "auto") -> Iterator[Runner]:
    """Load the model where the engine wants it.

    Args:
        engine: `local` or `ray`.
        load: Returns the model; for `ray` it is sent to the workers.
        setting: For every case.
        device: `cpu` asks the cluster for no GPU; otherwise each worker gets one where there are some.
    Raises:
        UsageError: What is wrong with the model or the cluster.
    """
    if engine == "local":
        yield LocalRunner(load(), setting)
        return
    with cluster():
        import ray

        has_gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        pool = RayPool(lambda: CaseWork(load(), setting), workers=setting.workers, gpus=float(has_gpu))
        try:
            about = pool.begin()
            assert isinstance(about, About)
            yield RayRunner(pool, about, setting)
        finally:
            pool.close()
