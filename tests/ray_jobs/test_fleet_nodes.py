"""A local cluster of several nodes: nodes come and go, disks fill up, drivers meet."""

import os
import sys
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import free_port
from witness import Witness, asked, journaled, made_alone, published

from ray_jobs import fleet
from ray_jobs.fleet import Placement
from ray_jobs.generate import simulate_on_ray
from ray_jobs.worker import Simulation
from usersim.audit import Audit
from usersim.errors import WorldError
from usersim.gauges import METERS
from usersim.simulate import SimulateSettings

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SETTINGS = SimulateSettings(conversations=48, shard_size=4, concurrency=6, retry_pause_s=0.0)
NODE = {"num_cpus": 2, "num_gpus": 1}  # a pretended GPU, of which each worker here wants one
SEEN = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}}
# A dead node is one that answers nothing for a second, and metrics are fresh: Ray's own periods are
# made for clusters that live for days.
SOON = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
    "metrics_report_interval_ms": 500,
}


def agent_ports():
    """Ports of a node's agents, given: else a busy node waits 15 s for them, and dies."""
    agents = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    return {name: free_port() for name in agents}


@pytest.fixture(scope="module")
def nodes():
    """One node; gives the cluster, and the port of its metrics."""
    from ray.cluster_utils import Cluster

    port = free_port()
    given = NODE | agent_ports() | {"metrics_export_port": port, "_system_config": SOON}
    cluster = Cluster(initialize_head=True, head_node_args=given)
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=SEEN)
    yield cluster, port
    ray.shutdown()
    cluster.shutdown()


def of(run, store="", **engine):
    trace = run / "trace"
    trace.mkdir(parents=True, exist_ok=True)
    user, assistant = Witness(trace, "u", rounds=3), Witness(trace, "a", **engine)
    return Simulation(SETTINGS, user, assistant, run, "recipe", 7, store)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one machine makes of the same plan."""
    return made_alone(SETTINGS, tmp_path_factory.mktemp("alone"))


def in_background(simulation, placement):
    """Start a driver; gives what waits for its end and raises what it raised."""
    failed = []

    def hold():
        try:
            simulate_on_ray(simulation, placement)
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            failed.append(error)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()

    def finish():
        thread.join(120)
        assert not thread.is_alive()
        if failed:
            raise failed[0]

    return finish


def until(condition):
    """Wait for something that other processes do."""
    tick = threading.Event()
    for _ in range(1200):
        if condition():
            return
        tick.wait(0.05)
    raise AssertionError("it never came")


def nothing_lost(run, alone):
    """Lost 0, doubled 0, half turns 0: the rows of one machine, and the journals' own proof."""
    assert published(run) == alone
    assert len(journaled(run)) == sum(len(c.turns) for c in alone) + len(alone)  # and leaving
    books = of(run).books()
    with closing(books):
        checks = Audit(books.agenda, books.lineage, run).checks()
        assert [problem for check in checks for problem in check.problems] == []


def finished(run):
    """What the journals hold now, and how much each process has been asked for at least."""
    keys = journaled(run)
    return keys, {pid: len(seeds) for pid, seeds in asked(run / "trace").items()}


def nothing_again(run, before):
    """Regenerated 0: what was `finished` before was not asked for since."""
    keys, numbers = before
    since = {s for pid, seeds in asked(run / "trace").items() for s in seeds[numbers.get(pid, 0) :]}
    plan = of(run).books().agenda.plan
    assert keys
    assert since
    assert since.isdisjoint(str(plan(c).turn_seed(position, n)) for c, position, n in keys)
    assert keys <= journaled(run)


def scraped(port):
    """What Prometheus would read of a node: (name, role or worker) and the value."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    page = opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    families = [f for f in text_string_to_metric_families(page) if f.name.startswith("ray_realcha")]
    return [s for f in families for s in f.samples]


def talking(samples):
    """The workers that have written tokens, as Prometheus sees it."""
    return {
        s.labels["worker"] for s in samples if s.name == "ray_realchat_tokens_total" and s.value
    }


def test_a_node_joins_and_another_is_killed_and_ray_shows_it(tmp_path, alone, nodes, monkeypatch):
    cluster, port = nodes
    monkeypatch.setattr(fleet, "GROW_S", 0.2)
    finish = in_background(of(tmp_path, turn_s=0.6), Placement(1, cpus=1, gpus=1, grows=True))
    until(lambda: len(journaled(tmp_path)) > 10)
    second = cluster.add_node(**NODE, **agent_ports())
    until(lambda: talking(scraped(port)) == {"worker-0.1", "worker-1.1"})
    before = finished(tmp_path)
    cluster.remove_node(second, allow_graceful=False)
    samples = []

    def all_there():
        samples[:] = scraped(port)
        return {f"ray_{m.exposed}" for m in METERS} - UNHEARD <= {s.name for s in samples}

    until(all_there)
    finish()
    nothing_lost(tmp_path, alone)
    nothing_again(tmp_path, before)
    values = {s.name: s.value for s in samples}
    assert values["ray_realchat_conversations_planned"] == 48
    assert values["ray_realchat_seconds_left"] > 0
    assert values["ray_realchat_workers_lost_total"] == 1
    assert talking(samples) == {"worker-0.1", "worker-1.1"}


UNHEARD = {"ray_realchat_failures_total", "ray_realchat_transient_retries_total"}
"""Counters of what does not happen here: Ray has no value for them."""


def test_a_full_disk_stops_the_run_and_room_resumes_it(tmp_path, alone, nodes):
    with pytest.raises(WorldError, match=r"cannot write the journal(.|\n)*resumes"):
        simulate_on_ray(of(tmp_path, full_at=8), Placement(1, cpus=1, gpus=1))
    before = finished(tmp_path)
    simulate_on_ray(of(tmp_path), Placement(1, cpus=1, gpus=1))
    nothing_lost(tmp_path, alone)
    nothing_again(tmp_path, before)


def test_a_second_driver_is_refused_and_the_first_goes_on(tmp_path, alone, nodes):
    store = f"file://{tmp_path}/store"
    finish = in_background(of(tmp_path / "run", store, turn_s=0.02), Placement(1, cpus=1, gpus=1))
    until(lambda: journaled(tmp_path / "run"))
    with pytest.raises(WorldError, match="another process is simulating"):
        simulate_on_ray(of(tmp_path / "run"), Placement(1, cpus=1, gpus=1))
    finish()
    nothing_lost(tmp_path / "run", alone)
    copies = sorted((tmp_path / "store" / "conversations").iterdir())
    originals = sorted((tmp_path / "run" / "conversations").glob("*.parquet"))
    assert [p.read_bytes() for p in copies] == [p.read_bytes() for p in originals]
