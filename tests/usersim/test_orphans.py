"""Children that outlive their parent are found and ended; those of the living are left alone."""

import os
import select
import subprocess
import sys
from contextlib import suppress

import pytest

from usersim.orphans import MARK, marked, orphans, reap

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PARENT = """
import os, subprocess, sys
from usersim.orphans import marked
with marked():
    child = subprocess.Popen(["sleep", "600"], stdout=-3, start_new_session=True)
plain = subprocess.Popen(["sleep", "600"], stdout=-3, start_new_session=True)
print(child.pid, plain.pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), 9)  # and nobody ends the children
"""


@pytest.fixture
def family():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    marked_child, plain_child = map(int, parent.stdout.readline().split())
    yield parent, marked_child, plain_child
    for pid in (marked_child, plain_child):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    parent.kill()
    parent.wait(timeout=60)


def test_only_marked_children_of_the_dead_are_ended(family):
    parent, child, plain = family
    assert child not in orphans()  # its parent lives
    parent.communicate("die\n", timeout=60)
    assert child in orphans()
    assert plain not in orphans()
    watched = os.pidfd_open(child)
    assert child in reap()
    assert select.select([watched], [], [], 60)[0]  # readable when it has ended
    os.close(watched)
    assert child not in orphans()
    os.kill(plain, 0)  # still there


def test_a_number_that_another_process_has_now_is_not_its_opener(family, monkeypatch):
    _, child, _ = family
    monkeypatch.setattr("usersim.orphans._started", lambda pid: "another time")
    assert child in orphans()


def test_an_opener_in_another_container_is_not_taken_for_gone(family, monkeypatch):
    parent, child, _ = family
    parent.communicate("die\n", timeout=60)
    assert child in orphans()
    monkeypatch.setattr("usersim.orphans._container", lambda: "1")
    assert child not in orphans()


def test_the_mark_is_gone_afterwards(monkeypatch):
    monkeypatch.delenv(MARK, raising=False)
    with marked():
        assert os.environ[MARK].startswith(f"{os.getpid()}:")
    assert MARK not in os.environ
    monkeypatch.setenv(MARK, "1:2")
    with marked():
        pass
    assert os.environ[MARK] == "1:2"
