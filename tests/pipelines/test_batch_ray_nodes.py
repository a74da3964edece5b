"""The engine `ray` on a cluster of several machines (processes here) that loses one of them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
