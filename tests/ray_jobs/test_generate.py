"""The command: `python -m ray_jobs.generate`, on a cluster that it starts for itself."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stages import simulation
from ray_jobs.generate import seen_by_all
from usersim.errors import InputError
from usersim.files import read_conversations
from usersim.simulate import simulate

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
RECIPE = """
engines: {user: {kind: scripted, model: talkative}, assistant: {kind: scripted, model: talkative}}
simulate: {conversations: 48, shard_size: 8, concurrency: 8}
"""


def command(run, *arguments, fault=""):
    recipe = run.parent / "recipe.yaml"
    recipe.write_text(RECIPE)
    given = ["--recipe", str(recipe), "--run", str(run), *arguments]
    environment = os.environ | {"REALCHAT_FAULT": fault, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, "-m", "ray_jobs.generate", *given],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def published(run):
    return [c for p in sorted((run / "conversations").glob("*")) for c in read_conversations(p)]


@pytest.mark.slow
def test_a_killed_driver_is_gone_on_from(tmp_path):
    run, alone = tmp_path / "run", tmp_path / "alone"
    two = ("--actors", "2", "--cpus-per-actor", "0.5")
    killed = command(run, *two, fault="ray.shard_done:2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 2 <= len(list((run / "conversations").glob("part-*.parquet"))) < 6

    resumed = command(run, *two)
    assert resumed.returncode == 0, resumed.stderr
    metrics = json.loads((run / "metrics.json").read_text())["simulate"]
    assert (metrics["conversations"], metrics["sessions"]) == (48, 2)
    manifest = json.loads((run / "manifest.json").read_text())
    assert len(manifest["files"]) == 6

    again = command(run, *two)
    assert (again.returncode, "already done" in again.stderr) == (0, True)

    recipe = Recipe.load(tmp_path / "recipe.yaml")
    simulate(*simulation(recipe, RunFolder(alone)))  # one machine
    assert published(run) == published(alone)


def free_ports(how_many):
    """Ports that nobody listens on now, below those that the kernel gives out by itself."""
    found, port = [], 20000 + os.getpid() % 5000
    while len(found) < how_many:
        port += 1
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(str(port))
    return found


@pytest.fixture
def head(tmp_path_factory):
    """A cluster as `ray start --head` makes it; gives the environment that submits to it."""
    temporary = tmp_path_factory.mktemp("ray")
    port, dashboard, agent = free_ports(3)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": f"realchat-{os.getpid():040d}"}
    environment = os.environ | token | {"RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    options = [
        "--port",
        port,
        "--dashboard-port",
        dashboard,
        "--dashboard-agent-listen-port",
        agent,
    ]
    cluster = subprocess.Popen(
        [RAY, "start", "--head", "--block", "--num-cpus", "2", "--disable-usage-stats", *options],
        env=environment | {"RAY_TMPDIR": str(temporary)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield environment
    cluster.terminate()  # with --block it takes its own processes with it, and no others
    cluster.wait(timeout=60)


@pytest.mark.slow
def test_a_submitted_job(tmp_path, head):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    job = [sys.executable, "-m", "ray_jobs.generate", "--recipe", str(tmp_path / "recipe.yaml")]
    job += ["--run", str(tmp_path / "run"), "--actors", "2", "--cpus-per-actor", "0.5"]
    for _ in range(10):  # a head that is starting refuses jobs
        submitted = subprocess.run(
            [RAY, "job", "submit", "--working-dir", ".", "--", *job],
            cwd=ROOT, env=head, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if submitted.returncode == 0 or "submitted successfully" in submitted.stdout:
            break
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "48/48 conversations" in submitted.stdout
    assert len({c.id for c in published(tmp_path / "run")}) == 48


def test_a_run_folder_inside_a_jobs_package_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    package.mkdir(parents=True)
    monkeypatch.chdir(package)
    with pytest.raises(InputError, match="every node sees"):
        seen_by_all(Path("runs/demo"))
    assert seen_by_all(tmp_path) == tmp_path
