"""A cluster that grows from no GPU at all, as far as somebody asks for more."""

import pytest
from test_fleet_nodes import SEEN, agent_ports, in_background, of, until
from witness import asked, journaled

from ray_jobs import fleet
from ray_jobs.fleet import Placement

ray = pytest.importorskip("ray")


@pytest.fixture
def cluster():
    """A head without GPUs."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1} | agent_ports())
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=SEEN)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def wanted(cluster):
    """GPUs that somebody waits for, as an autoscaler reads it."""
    from ray._raylet import GcsClient
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    state = get_cluster_resource_state(GcsClient(cluster.address))
    return sum(
        each.count * each.request.resources_bundle.get("GPU", 0.0)
        for each in state.pending_resource_requests
    )


@pytest.mark.slow
def test_a_cluster_without_a_gpu_is_asked_for_one_after_the_other(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(fleet, "GROW_S", 0.2)
    finish = in_background(of(tmp_path, turn_s=0.6), Placement(1, cpus=1, gpus=1, grows=True))
    for nodes in (1, 2):
        until(lambda: wanted(cluster) == 1.0)
        cluster.add_node(num_cpus=1, num_gpus=1, **agent_ports())
        until(lambda count=nodes: len(asked(tmp_path / "trace")) == count)
    finish()
    assert len({conversation for conversation, *_ in journaled(tmp_path)}) == 48
