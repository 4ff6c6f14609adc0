"""Processes whose parent died before them: an engine's workers that would hold a device's memory.

A watchdog ends them with their parent; this is for when the watchdog went too. Whatever is started
while engines are opened carries a mark in its environment that says who opened it; before engines
are opened again, marked processes whose opener is gone are killed. A process is its number and its
start time together, so that nobody is taken for another; those of another container, whose numbers
mean others here, are left alone. Linux; elsewhere nothing is found.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

MARK = "REALCHAT_OPENED_BY"
PROC = Path("/proc")


@contextmanager
def marked() -> Iterator[None]:
    """Mark the processes that are started inside as opened by this one."""
    before = os.environ.get(MARK)
    os.environ[MARK] = f"{os.getpid()}:{_started(os.getpid())}:{_container()}"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = before


def reap() -> list[int]:
    """Kill what processes that are gone have left behind; returns the numbers of those killed."""
    killed = []
    for pid in orphans():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    if killed:
        log.warning("ended %d processes of an engine whose owner is gone: %s", len(killed), killed)
    return killed


def orphans() -> list[int]:
    """Processes of this user that carry the mark of one that is gone."""
    found = []
    for path in PROC.glob("[0-9]*/environ"):
        with suppress(OSError, ValueError):
            if not _lives(_opener(path.read_bytes())):
                found.append(int(path.parent.name))
    return sorted(found)


def _opener(environ: bytes) -> str:
    """Who opened a process. Raises ValueError when it carries no mark."""
    key = f"{MARK}=".encode()
    mark = next((v for v in environ.split(b"\0") if v.startswith(key)), None)
    if mark is None:
        raise ValueError("no mark")
    return mark.removeprefix(key).decode()


def _lives(opener: str) -> bool:
    pid, started, container = opener.split(":")
    return container != _container() or _started(int(pid)) == started


def _container() -> str:
    """Within what a process's number means what it means here: the number of that namespace."""
    try:
        return str((PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot; empty when it is gone or a zombie."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
