"""An engine that leaves a trace of every request, and at one of them dies as a machine does."""

import asyncio
import os
import resource
import signal
import sqlite3
from pathlib import Path

from usersim.engines.scripted import talkative
from usersim.errors import EngineDead
from usersim.files import read_conversations
from usersim.simulate import simulate


class Witness:
    """Talks like the scripted engine; notes each request's seed in a file of its process.

    With `dies_at` the first process to come so far kills itself, after writing down what was in the
    journals at that moment; with `stops` it sends SIGTERM to that process instead. `turn_s` is how
    long a turn takes; from request `full_at` on the process finds its disk full; asked for the turn
    with the seed `poison` it dies as an engine does, for good. Travels to a worker as it is.
    """

    context_tokens = 4096

    def __init__(self, trace: Path, model: str, rounds=None, dies_at=0, stops=0, **more):
        self.trace, self.model, self.rounds = trace, model, rounds
        self.dies_at, self.stops = dies_at, stops
        self.turn_s, self.full_at = more.get("turn_s", 0.0), more.get("full_at", 0)
        self.poison, self.dead = more.get("poison"), False
        self.calls = 0

    async def complete(self, messages, sampling):
        talks = talkative(self.rounds, self.model)
        if sampling.seed is None:  # nobody's turn: a worker sees whether its engine answers at all
            return await talks.complete(messages, sampling)
        self.calls += 1
        with (self.trace / f"{os.getpid()}.seeds").open("a") as file:
            file.write(f"{sampling.seed}\n")
        if self.calls == self.dies_at and self._is_first():
            os.kill(self.stops or os.getpid(), signal.SIGTERM if self.stops else signal.SIGKILL)
        if self.calls == self.full_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, -1))  # no file grows any more
        self.dead = self.dead or sampling.seed == self.poison is not None
        if self.dead:
            raise EngineDead("scripted: dead")
        await asyncio.sleep(self.turn_s)
        return await talks.complete(messages, sampling)

    def _is_first(self):
        try:
            handle = os.open(self.trace / "died", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.write(handle, f"{os.getpid()}\n".encode())
        os.write(handle, "\n".join(map(repr, sorted(journaled(self.trace.parent)))).encode())
        os.close(handle)
        return True

    async def close(self):
        pass


def journaled(run):
    """(conversation, position, attempt) of every turn in a run's journals; none twice."""
    rows = []
    for path in sorted((run / "journal").glob("*.sqlite")):
        with sqlite3.connect(path, timeout=30) as db:
            tables = db.execute("SELECT name FROM sqlite_master").fetchall()
            if ("attempt",) in tables:
                rows += db.execute("SELECT conversation, position, attempt FROM attempt").fetchall()
    assert len(rows) == len(set(rows))
    return set(rows)


def asked(trace):
    """Seeds that engines were asked for, by process id."""
    return {int(p.stem): p.read_text().split() for p in sorted(trace.glob("*.seeds"))}


def published(run):
    """Every conversation of a run, in the order of its files."""
    return [c for p in sorted((run / "conversations").glob("*")) for c in read_conversations(p)]


def made_alone(settings, run):
    """What one machine makes of the plan that the witnesses talk through."""
    simulate(settings, talkative(3, "u"), talkative(model="a"), run, "recipe", 7)
    return published(run)
