"""A cluster as `ray start --head` makes it, and jobs submitted to it."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


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


def submitted(environment, job, heard: Callable[[str], None] = lambda line: None):
    """Submit a job and wait; gives its output, whose lines `heard` is told as they come."""
    command = [RAY, "job", "submit", "--working-dir", ".", "--", *job]
    for _ in range(10):  # a head that is starting refuses jobs
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line)
            heard(line)
        output = "".join(lines)
        if process.wait(timeout=60) == 0 or "submitted successfully" in output:
            break
    assert process.returncode == 0, output
    return output
