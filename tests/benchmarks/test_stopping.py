"""A benchmark that is told to end ends, whoever of the contestants is at it."""

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarks.contestants import Arena, ours
from benchmarks.endpoint_threads import threads
from benchmarks.stopping import end_at_once
from benchmarks.workload import Work
from usersim.engines.gate import Gate
from usersim.stopping import Stopping

WORK = Work(conversations=6, rounds=2, slots=2, mean=5.0)


class Interrupted:
    """An engine that never answers, and has this process told to end when it is asked."""

    model, context_tokens = "silent", 100_000

    def __init__(self, number):
        self.number, self.host = number, SimpleNamespace(gate=Gate(1))

    async def complete(self, messages, sampling):
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), self.number)
        await asyncio.Event().wait()

    async def close(self):
        pass


@pytest.fixture
def ending(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(Stopping, "on_signals", Stopping.on_signals)  # and back
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    end_at_once()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("contestant", [partial(ours, group=1), threads], ids=["ours", "threads"])
def test_a_signal_ends_it_amid_a_turn(ending, contestant, number):
    arena = Arena({role: Interrupted(number) for role in ("user", "assistant")}, WORK)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(contestant(arena))


def test_what_it_waits_for_ends_with_it():
    child = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(100)"
    parent = (
        "import subprocess, sys; from benchmarks.stopping import end_at_once; end_at_once();"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, timeout=60, check=False
    )  # returns when nobody holds the pipe any more
    assert b"KeyboardInterrupt" in ended.stderr
