"""A server in a process of its own, for as long as a test needs it."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 400
HOST = "127.0.0.1"


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextmanager
def serving(command, port, log: Path, **settings):
    """Start the command and yield its base URL when it is healthy; ends all of its processes."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, start_new_session=True, env=os.environ | settings
        )
    try:
        give_up, url = time.monotonic() + WAIT_S, f"http://{HOST}:{port}"
        while not _answers(f"{url}/health"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < give_up, log.read_text()[-3000:]
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url):
    import httpx

    try:
        return httpx.get(url, timeout=1.0).status_code == 200
    except httpx.TransportError:
        time.sleep(0.2)  # it is starting: there is nobody to wait on but the port
        return False
