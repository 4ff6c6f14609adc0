"""Ray's own autoscaler, with nodes that are processes here: it adds what a run waits for."""

import json
import os
import signal
import subprocess

import pytest
from ray_head import RAY, free_ports
from test_fleet_nodes import SEEN, SETTINGS, in_background, nothing_lost, of, until
from witness import asked, made_alone

from ray_jobs import fleet
from ray_jobs.fleet import Placement

ray = pytest.importorskip("ray")

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD = "f" * 51 + "00000"  # the id by which that provider knows the head
MEMORY = 100_000_000
NOTHING = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")


def configured(address):
    """What `ray start` is told: a head without GPUs, and up to two nodes of a pretended one."""
    node = {"CPU": 1, "GPU": 1, "object_store_memory": MEMORY}
    provider = {"type": "external", "module": PROVIDER, "launch_multiple": True}
    return {
        "cluster_name": "grows",
        "max_workers": 2,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "provider": provider | {"head_node_id": HEAD, "gcs_address": address},
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": node, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
    } | {f"{name}_commands": [] for name in NOTHING}


@pytest.fixture
def cluster(tmp_path_factory):
    """The head and its autoscaler; this process is connected to them."""
    temporary = tmp_path_factory.mktemp("ray")
    port, dashboard, agent = free_ports(3)
    address = f"{ray.util.get_node_ip_address()}:{port}"
    told = temporary / "autoscaling.json"
    told.write_text(json.dumps(configured(address)))
    # With a token where this process has one already, from a cluster of its own.
    mode = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled")}
    alike = dict.fromkeys(("RAY_CLOUD_INSTANCE_ID", "RAY_OVERRIDE_NODE_ID_FOR_TESTING"), HEAD)
    switches = {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1"}
    soon = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_TMPDIR": str(temporary)}
    command = [RAY, "start", "--head", "--block", "--num-cpus", "1", "--num-gpus", "0"]
    command += ["--port", port, "--dashboard-port", dashboard, "--disable-usage-stats"]
    command += ["--dashboard-agent-listen-port", agent, f"--object-store-memory={MEMORY}"]
    head = subprocess.Popen(
        [*command, f"--autoscaling-config={told}"], env=os.environ | mode | alike | switches | soon,
        start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        next(line for line in head.stdout if "Ray runtime started" in line)
        ray.init(address=address, log_to_driver=False, runtime_env=SEEN)
        yield
        ray.shutdown()
    finally:
        os.killpg(head.pid, signal.SIGKILL)  # the nodes that it added are of its group
        head.communicate(timeout=60)


@pytest.mark.slow
def test_the_autoscaler_adds_a_gpu_after_the_other_in_mid_run(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(fleet, "GROW_S", 0.2)
    alone = made_alone(SETTINGS, tmp_path / "alone")
    finish = in_background(of(tmp_path, turn_s=1.0), Placement(1, cpus=1, gpus=1, grows=True))
    for workers in (1, 2):
        until(lambda count=workers: len(asked(tmp_path / "trace")) == count)
    finish()
    assert ray.cluster_resources()["GPU"] == 2.0  # there was none
    nothing_lost(tmp_path, alone)
