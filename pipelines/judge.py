"""One case on its way: read, diagnosed, explained. A failed explanation never takes the diagnosis with it."""

import hashlib
import importlib
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from medmm.cases import EVERY_SERIES, CasePlan
from medmm.dicom.limits import Limits
from medmm.errors import InputError
from medmm.explain.methods import ExplanationMethods
from medmm.report_leak import cover_answers, note_leak
from medmm.results import Diagnosis, Explanation
from medmm.types import Case, Note
from pipelines.config import RunConfig
from pipelines.engine import Refused, StageClock, attempt

if TYPE_CHECKING:
    from medmm.diagnose import ModelSpec

logger = logging.getLogger(__name__)
# How the death of a decoder shows; a machine short of memory or time for a moment may do better the second time.
_WORTH_ANOTHER_TRY = frozenset(("decode.failed", "limit.memory", "limit.time"))
_LOADED_ON_FIRST_USE = (
    "pydicom",
    "pydicom.charset",
    "nibabel",
    "medmm.dicom.volume",
    "medmm.dicom.text",
    "medmm.report.content",
    "medmm.report.html",
)


class DiagnosesCases(Protocol):
    """What the batch needs of a model; `medmm.Diagnoser` is one."""

    @property
    def spec(self) -> "ModelSpec":
        """What the model reads."""

    @property
    def device(self) -> object:
        """Where it runs; its text names the device."""

    def size_of(self, case: Case) -> float:
        """Return the share that a case has of one pass of the model; 1 and more: it is looked at alone."""

    def read_together(self, cases: Sequence[Case]) -> None:
        """Look at several cases together; `diagnose` and `explain` of each go on from there."""

    def diagnose(self, case: Case) -> Diagnosis:
        """Return the answers for a case."""

    def explain(
        self,
        case: Case,
        diagnosis: Diagnosis,
        level: Literal["fast", "full"] = "fast",
        methods: ExplanationMethods | None = None,
    ) -> Explanation:
        """Return why."""


Load = Callable[[str], DiagnosesCases]  # puts the model on a device


@dataclass(frozen=True, slots=True)
class ModelSource:
    """How a run loads its model: by name, as its settings say. Another process can be told so."""

    name: str
    config: RunConfig

    def __call__(self, device: str) -> DiagnosesCases:
        """Return the model on a device; raises as `medmm.load_model`."""
        from medmm.diagnose import load_model

        config = self.config
        return load_model(
            self.name,
            device=device,
            allow_other_graph=config.allow_other_graph,
            precision=config.precision,
            batch_mib=config.batch_mib,
        )


def preload() -> None:
    """Import what the stages load on first use, before they run in threads of their own.

    pydicom and nibabel import each other; two threads that first touch them together can meet half of a module.
    """
    for name in _LOADED_ON_FIRST_USE:
        importlib.import_module(name)


@dataclass(frozen=True, slots=True)
class Judged:
    """A case with its answers and the reasons; without reasons where none were asked for or the method failed."""

    explanation: Explanation

    @property
    def notes(self) -> tuple[Note, ...]:
        """Everything a reader must know, each once."""
        parts = (*self.explanation.case.all_notes(), *self.explanation.diagnosis.notes, *self.explanation.notes)
        return tuple(dict.fromkeys(parts))


@dataclass(frozen=True, slots=True)
class CaseReader:
    """Reads cases under caps. A case whose decoder died or hung is tried once more."""

    limits: Limits
    clock: StageClock

    def read(self, plan: CasePlan) -> Case | Refused:
        """Return the case, or why it cannot be read."""
        case = attempt("read", lambda: plan.read(limits=self.limits), self.clock)
        if isinstance(case, Refused) and case.code in _WORTH_ANOTHER_TRY:
            case = attempt("read", lambda: plan.read(limits=self.limits), self.clock)
        return case


@dataclass(frozen=True, slots=True)
class Judge:
    """A model with the run's settings."""

    model: DiagnosesCases
    config: RunConfig
    clock: StageClock

    def judge(self, cases: Sequence[Case]) -> list[Judged | Refused]:
        """Return the diagnosis and explanation of each case, or why there is none.

        Several cases are looked at by the large networks together. Where that fails each is looked at alone, so that
        a case costs no other one its answer.
        """
        guarded = [self._guarded(case) for case in cases]
        if len(guarded) > 1:
            self._look_together(guarded)
        return [self._judge(case) for case in guarded]

    def _look_together(self, cases: Sequence[Case]) -> None:
        started = time.perf_counter()
        failed = attempt("diagnose", lambda: self.model.read_together(cases))
        if isinstance(failed, Refused):
            logger.info("%d cases could not be looked at together (%s)", len(cases), failed.code)
            _free_device_memory()
        self.clock.add("diagnose", time.perf_counter() - started, cases=0)

    def _judge(self, case: Case) -> Judged | Refused:
        _seed(self.config.seed, case.input_hashes)
        diagnosis = attempt("diagnose", lambda: self._diagnose(case), self.clock)
        if isinstance(diagnosis, Refused) and diagnosis.code == "limit.gpu_memory":
            _free_device_memory()
            diagnosis = attempt("diagnose", lambda: self._diagnose(case), self.clock)
        if isinstance(diagnosis, Refused):
            return diagnosis
        return Judged(self._explain(case, diagnosis))

    def _guarded(self, case: Case) -> Case:
        """The case with a report that says, or no longer says, what the model is asked for."""
        if case.report is None:
            return case
        guard = cover_answers if self.config.label_leak == "mask" else note_leak
        return replace(case, report=guard(case.report, self.model.spec.answers))

    def _diagnose(self, case: Case) -> Diagnosis:
        if self.model.spec.is_volume_required and not case.volumes:
            kinds = "" if EVERY_SERIES in self.model.spec.roles else f" ({', '.join(self.model.spec.roles)})"
            raise InputError(
                f"No series of the study is one of those that the model needs{kinds}.",
                code="series.none",
                remedy="`medmm check` shows how the series were recognised.",
            )
        return self.model.diagnose(case)

    def _explain(self, case: Case, diagnosis: Diagnosis) -> Explanation:
        bare = Explanation(case=case, diagnosis=diagnosis, tasks={})
        level = self.config.explain
        if level == "none":
            return bare
        explain: Callable[[], Explanation] = lambda: self.model.explain(case, diagnosis, level, self.config.methods)  # noqa: E731
        explanation = attempt("explain", explain, self.clock)
        if isinstance(explanation, Refused):
            sentence = f"The explanation failed ({explanation.code}); the diagnosis stands without it."
            return replace(bare, notes=(Note("explain.failed", sentence),))
        return explanation


def _seed(start: int, inputs: Mapping[str, str]) -> None:
    """Let random numbers depend on the case's content, not on its place in the batch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        digest = hashlib.sha256(f"{start} {sorted(inputs.items())}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7], "big"))


def _free_device_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
