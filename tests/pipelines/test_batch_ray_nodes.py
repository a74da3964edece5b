"""The engine `ray` on a cluster of several machines (processes here) that loses one of them, or its head."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import rule_model
from batch_cohort import N_CASES, digests
from rule_model import RuleModel

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from pipelines.diagnose import Job, diagnose_folder
from pipelines.events import CaseDone, Event

pytestmark = pytest.mark.slow
MakeJob = Callable[..., Job]


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room for workers, and two machines with room for one each."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    ray.cloudpickle.register_pickle_by_value(rule_model)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.bad_input("H7")
def test_a_batch_goes_on_when_a_machine_is_lost(machines: Any, make_job: MakeJob, tmp_path: Path) -> None:
    lost: list[object] = []

    def lose_one(event: Event) -> None:
        if isinstance(event, CaseDone) and not lost:
            lost.append(machines.nodes[0])
            machines.remove_node(machines.nodes[0], allow_graceful=False)

    summary = diagnose_folder(make_job("ray", engine="ray", workers=2), lambda device: RuleModel(seconds=0.5), lose_one)
    diagnose_folder(make_job("local"), RuleModel)

    assert lost
    assert (summary.cases, summary.refused) == (N_CASES, 0)
    assert digests(make_job("ray").output) == digests(make_job("local").output)


# A run whose head is on this machine: the processes that are the head are children of it.
RUN = """
import sys, ray, rule_model
from functools import partial
from pathlib import Path
from pipelines.diagnose import Job, diagnose_folder
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
ray.cloudpickle.register_pickle_by_value(rule_model)
studies, out, reports, records, key = map(Path, sys.argv[1:])
job = Job(folder=studies, output=out, reports=reports, records=records, id_key=key, engine="ray")
diagnose_folder(job, partial(rule_model.RuleModel, seconds=2.0))
"""


@pytest.mark.bad_input("H7")
def test_a_run_that_loses_the_head_ends_and_a_resume_goes_on(make_job: MakeJob, tmp_path: Path) -> None:
    job, here = make_job("ray"), Path(__file__)
    places = (job.folder, job.output, job.reports, job.records, job.id_key)
    paths = os.pathsep.join([str(here.parents[2]), str(here.parent), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}

    run = psutil.Popen(
        [sys.executable, "-c", RUN, *map(str, places)],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ledger = job.output / "ledger.jsonl"
    while run.poll() is None and not (ledger.exists() and '"kind": "case"' in ledger.read_text()):
        time.sleep(0.1)
    for child in run.children(recursive=True):
        if child.name() in ("gcs_server", "raylet"):
            child.kill()
    code = run.wait(timeout=180)

    assert code != 0
    summary = diagnose_folder(make_job("ray", may_resume=True), RuleModel)
    diagnose_folder(make_job("local"), RuleModel)
    assert 1 <= summary.done_before < N_CASES
    assert summary.refused == 0
    assert digests(make_job("ray").output) == digests(make_job("local").output)
