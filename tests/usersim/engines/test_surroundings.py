"""What an engine's process inherits, and that it does not outlive us."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from usersim.engines.surroundings import (
    Deaths,
    Watchdog,
    children_of,
    environment,
    inherited_by_children,
    parse_cores,
)

ROOT = Path(__file__).parents[3]


def test_whoever_waits_hears_at_once_that_a_process_has_died():
    async def told(deaths, one):
        waiting = [deaths.first() for _ in range(3)]
        assert not any(future.done() for future in waiting)
        one.kill()
        async with asyncio.timeout(30):
            await asyncio.gather(*waiting)
        assert deaths.first().done()  # and it stays told

    with (
        subprocess.Popen(["/bin/sleep", "600"]) as one,
        subprocess.Popen(["/bin/sleep", "600"]) as other,
    ):
        deaths = Deaths([other.pid, one.pid])
        asyncio.run(told(deaths, one))
        deaths.forget()
        other.kill()


def test_a_process_that_has_died_before_is_told_in_every_loop():
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    deaths = Deaths([gone.pid])

    async def first():
        return deaths.first().done()

    assert asyncio.run(first())
    assert asyncio.run(first())


def test_the_environment_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setenv("KEPT", "before")
    monkeypatch.delenv("MADE", raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    with environment({"KEPT": "inside", "MADE": "inside"}, tmp_path / "log"):
        child = "import os; print(os.environ['KEPT'], os.environ['MADE'])"
        subprocess.run([sys.executable, "-c", child], check=True)
        os.environ["LD_PRELOAD"] = "what vLLM leaves there"
    assert os.environ["KEPT"] == "before"
    assert "MADE" not in os.environ
    assert "LD_PRELOAD" not in os.environ
    assert (tmp_path / "log").read_text() == "inside inside\n"


def test_the_same_surroundings_are_shared_and_others_wait(tmp_path, monkeypatch):
    monkeypatch.delenv("WHO", raising=False)
    log, seen = tmp_path / "log", []
    both_in = threading.Barrier(2)

    def same():
        with environment({"WHO": "same"}, log):
            both_in.wait(20)  # two are inside at once, or this breaks
            seen.append(os.environ["WHO"])

    def other():
        with environment({"WHO": "other"}, log):
            seen.append(os.environ["WHO"])

    threads = [threading.Thread(target=work) for work in (same, other, same)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(seen) == ["other", "same", "same"]
    assert seen.index("other") != 1
    assert "WHO" not in os.environ


def test_children_are_deaf_to_ctrl_c_and_keep_to_their_cores(capfd):
    allowed = os.sched_getaffinity(0)
    core = min(allowed)
    child = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print(os.sched_getaffinity(0))"
    with inherited_by_children({core}):
        subprocess.run([sys.executable, "-c", child], check=True)
    assert capfd.readouterr().out == f"{{{core}}}\n"
    assert os.sched_getaffinity(0) == allowed
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_cores():
    assert parse_cores("") == set()
    assert parse_cores("0-2,5") == {0, 1, 2, 5}
    with pytest.raises(ValueError, match="invalid literal"):
        parse_cores("all")


def test_an_engine_does_not_outlive_a_killed_parent():
    """A process with a watched child is killed with -9: the child goes too."""
    parent = (
        "import os, signal, subprocess, sys\n"
        "from usersim.engines.surroundings import Watchdog\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE,"
        " start_new_session=True, pass_fds=[int(sys.argv[1])])\n"
        "Watchdog([child.pid])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    reads, writes = os.pipe()  # open until the last process that holds `writes` is gone
    done = subprocess.run(
        [sys.executable, "-c", parent, str(writes)], pass_fds=[writes], check=False, cwd=ROOT
    )
    os.close(writes)
    assert done.returncode == -signal.SIGKILL
    assert os.read(reads, 1) == b""
    os.close(reads)


def test_a_dismissed_watchdog_kills_nobody():
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    assert child.pid in children_of(os.getpid())
    Watchdog([child.pid]).dismiss()
    assert child.poll() is None
    child.communicate(b"", timeout=20)
    assert child.returncode == 0
