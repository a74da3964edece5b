"""Studies that share passes of the network: nobody's company changes an answer, and nobody's failure costs another."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tiny_models as tiny
import torch
from batch_cohort import N_CASES, digests
from rule_model import RuleModel

from medmm.checkpoint import LoadedModel
from medmm.diagnose import Diagnoser
from medmm.types import Case
from pipelines.config import RunConfig
from pipelines.diagnose import Job, diagnose_folder

MakeJob = Callable[..., Job]
JSON_ONLY = RunConfig(formats=("json", "nii"))


class Sharing(Diagnoser):
    """A tiny model with room for several cases in a pass. `is_alone`: it is made to look at one after the other."""

    def __init__(self, *, is_alone: bool) -> None:
        config = tiny.build_config(is_required=True)
        loaded = LoadedModel(model=tiny.build_model(config), weights_sha256="0" * 64, card=tiny.CARD, metrics={})
        super().__init__(loaded, text_encoder=None, graph=None, device=torch.device("cpu"), batch_mib=40)
        self.is_alone = is_alone
        self.batches: list[int] = []

    def size_of(self, case: Case) -> float:
        return 1.0 if self.is_alone else super().size_of(case)

    def read_together(self, cases: Sequence[Case]) -> None:
        self.batches.append(len(cases))
        super().read_together(cases)


def test_company_does_not_change_a_byte(make_job: MakeJob, tmp_path: Path) -> None:
    shared, alone = Sharing(is_alone=False), Sharing(is_alone=True)

    summary = diagnose_folder(make_job("shared", config=JSON_ONLY, workers=4), lambda device: shared)
    diagnose_folder(make_job("alone", config=JSON_ONLY), lambda device: alone)

    assert (summary.cases, summary.refused) == (N_CASES, 0)
    assert summary.stages["diagnose"]["cases"] == N_CASES
    assert shared.batches
    assert not alone.batches
    assert digests(tmp_path / "shared") == digests(tmp_path / "alone")


class Failing(RuleModel):
    """Never has the memory to look at several cases; `bad_age`: breaks on patients of that age, alone too."""

    def __init__(self, error: Exception, bad_age: float | None = None) -> None:
        super().__init__(crash_age=bad_age)
        self.error = error
        self.tried: list[int] = []

    def size_of(self, case: Case) -> float:
        return 0.2

    def read_together(self, cases: Sequence[Case]) -> None:
        self.tried.append(len(cases))
        raise self.error


def _some_age(job: Job) -> float:
    assert job.records is not None
    header, *rows = (line.split(",") for line in job.records.read_text().splitlines())
    return next(float(row[header.index("age_years")]) for row in rows if row[header.index("age_years")])


def test_a_batch_that_does_not_fit_is_done_one_by_one(make_job: MakeJob, tmp_path: Path) -> None:
    model = Failing(type("OutOfMemoryError", (RuntimeError,), {})("CUDA"))

    summary = diagnose_folder(make_job("failing", workers=4), lambda device: model)
    diagnose_folder(make_job("plain"), RuleModel)

    assert max(model.tried) > 1
    assert summary.refused == 0
    assert digests(tmp_path / "failing") == digests(tmp_path / "plain")


def test_one_bad_study_of_a_batch_costs_only_itself(make_job: MakeJob) -> None:
    model = Failing(ZeroDivisionError("SECRET"), bad_age=_some_age(make_job()))

    summary = diagnose_folder(make_job(workers=4), lambda device: model)

    assert max(model.tried) > 1
    assert dict(summary.refusals) == {"internal.error": 1}
    assert summary.ok + summary.warned == N_CASES - 1
