"""What an engine's process is born with: environment, cores, signals; and its end with its parent.

vLLM reads its settings for the CPU from the environment when it starts its process. They are set
for that moment only, so that training or another engine in this process does not inherit them.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_turn = threading.Condition()
_active: dict[str, str] = {}
_before: dict[str, str | None] = {}
_kept: dict[int, int] = {}
_users = 0
_STREAMS = (1, 2)
_OUTPUT = "output"


@contextmanager
def environment(variables: Mapping[str, str], output: Path) -> Iterator[None]:
    """Set variables and send standard output and error to a file; afterwards put back what was.

    What is started inside keeps both. Blocks in other threads that want the same run side by side;
    others wait for their turn.
    """
    wanted = {**variables, _OUTPUT: str(output)}
    global _users  # noqa: PLW0603 - the environment is one for the process, so is its count of users
    with _turn:
        _turn.wait_for(lambda: not _users or _active == wanted)
        if not _users:
            _redirect(output)
            _active.update(wanted)
            _before.update({name: os.environ.get(name) for name in [*variables, "LD_PRELOAD"]})
            os.environ.update(variables)
        _users += 1
    try:
        yield
    finally:
        with _turn:
            _users -= 1
            if not _users:
                _put_back()
                _turn.notify_all()


def _redirect(output: Path) -> None:
    """Point standard output and error of this process, and so of its children, at a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in _STREAMS:
        _kept[stream] = os.dup(stream)
        os.dup2(target, stream)
    os.close(target)


def _put_back() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for stream, kept in _kept.items():
        os.dup2(kept, stream)
        os.close(kept)
    _kept.clear()
    for name, value in _before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _active.clear()
    _before.clear()


@contextmanager
def inherited_by_children(cores: set[int]) -> Iterator[None]:
    """Children started by this thread run on `cores` (if any) and are deaf to Ctrl-C.

    A Ctrl-C in a terminal reaches every process of the group: an engine that died of it could not
    finish the turns in flight. Its parent ends it instead.
    """
    allowed = os.sched_getaffinity(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if cores:
            os.sched_setaffinity(0, cores)
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def parse_cores(text: str) -> set[int]:
    """Core ids of `0-3,6`. Raises ValueError for anything else."""
    cores: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores


class Deaths:
    """Tells coroutines that one of some processes has ended; the kernel says so at once (pidfd)."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._handles: list[int] = []
        self._told: asyncio.Future[None] | None = None

    def first(self) -> "asyncio.Future[None]":
        """Done as soon as one of them has ended; belongs to the running loop."""
        loop = asyncio.get_running_loop()
        if self._told is None or self._told.get_loop() is not loop:
            self.forget()
            self._told = loop.create_future()
            for pid in self._pids if hasattr(os, "pidfd_open") else ():  # on Linux
                self._watch(pid, loop)
        return self._told

    def _watch(self, pid: int, loop: asyncio.AbstractEventLoop) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self._tell()
        else:
            self._handles.append(handle)
            loop.add_reader(handle, self._tell)

    def _tell(self) -> None:
        if self._told is not None and not self._told.done():
            self._told.set_result(None)
        self.forget()

    def forget(self) -> None:
        """Watch no longer; what was told stays told. Calling it twice is allowed."""
        for handle in self._handles:
            if self._told is not None:
                self._told.get_loop().remove_reader(handle)
            os.close(handle)
        self._handles.clear()


class Watchdog:
    """Kills processes when this one is gone, however it went; a `kill -9` leaves no orphans.

    A shell waits for the end of a pipe whose other end only we hold.
    """

    def __init__(self, pids: list[int]) -> None:
        script = f'read -r word; [ -n "$word" ] || kill -9 {" ".join(map(str, pids))} 2>/dev/null'
        self._shell = subprocess.Popen(  # noqa: S603 - the pids are numbers of ours
            ["/bin/sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Our processes ended in order: nothing to kill."""
        with suppress(OSError):
            self._shell.communicate(b"done\n", timeout=5)


def children_of(pid: int) -> list[int]:
    """Process ids of the living descendants of a process (Linux; elsewhere none)."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *children_of(child)]
    return found
