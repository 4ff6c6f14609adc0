"""Kills at every fault point one by one, and at random moments: the invariants, round by round.

Lost 0, doubled 0, half turns 0, finished turns regenerated 0. `make test-crash` does 200 rounds and
every fault point; the test suite does some of them.
"""

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from usersim import faults
from usersim import journal as journals
from usersim.audit import Audit, ReadJournal, broken_turns
from usersim.engines.scripted import ScriptedEngine, talkative
from usersim.errors import DeterministicError
from usersim.files import read_conversations
from usersim.outcome import Lineage, records
from usersim.plan import Agenda, SimulateSettings
from usersim.simulate import simulate

ROUNDS = int(os.environ.get("REALCHAT_CRASH_ROUNDS", "30"))
EVERY_POINT = ROUNDS >= 200
SERVER = multiprocessing.get_context(
    "forkserver"
)  # imports once; each round is a process of its own
SERVER.set_forkserver_preload(["pytest", "pyarrow.parquet", __name__])
POINTS = (
    "journal.begin",
    "journal.inside",
    "journal.commit",
    "journal.sync",
    "journal.synced",
    "shard.publish",
    "shard.published",
    "file.written",
    "file.synced",
    "file.renamed",
)


def settings_of(conversations):
    return SimulateSettings(
        conversations=conversations,
        shard_size=16,
        concurrency=12,
        opener_attempts=2,
        turn_attempts=2,
        max_error_rate=1.0,
    )


def speaker(role, asked):
    """Talkative, but some turns are refused, some engines fail, and all is noted in a file."""
    engine = talkative(2 if role == "user" else None)

    def script(messages, sampling):
        with asked.open("a") as log:  # closed, and so with the system, before the turn is anybody's
            log.write(f"{sampling.seed}\n")
        if sampling.seed % 31 == 0:
            raise DeterministicError("scripted: refused", reason="engine_refused")
        if sampling.seed % 4 == 0:
            return "" if len(messages) < 2 else messages[-1].content  # of nothing, or a parrot
        return engine._script(messages, sampling)

    return ScriptedEngine(script, role)


def hold(run, settings, asked):
    return simulate(settings, speaker("user", asked), speaker("assistant", asked), run, "r", 7)


def session(run, settings, asked, fault, ready):
    """One process: simulate, and perhaps die at a fault point."""
    faults._NAME, _, count = fault.partition(":")
    if "sync" in fault:
        journals.SYNC_S = 0.0  # the script is over before a second is
    faults._COUNT = count
    ready.set()
    hold(run, settings, asked)


def killed(run, settings, asked, *, fault="", after_s=None):
    """Whether the process died of SIGKILL: at the fault point, or `after_s` after it had begun."""
    ready = SERVER.Event()
    process = SERVER.Process(target=session, args=(run, settings, asked, fault, ready))
    process.start()
    if after_s is not None:
        ready.wait(60)
        process.join(after_s)
        process.kill()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def finished_seeds(run, settings):
    """Sampling seeds of the turns that the journals hold; half turns are found on the way."""
    agenda, seeds = Agenda(settings, "r", 7), set()
    for path in sorted((run / "journal").glob("*.sqlite")):
        with TemporaryDirectory() as folder, closing(going_on(path, Path(folder))) as journal:
            assert journal.damage() == ""
            for record in records(journal) if has_tables(journal) else ():
                assert list(broken_turns(record)) == []
                plan = agenda.plan(record.index)
                seeds |= {plan.turn_seed(a.position, a.attempt) for a in record.attempts}
    return seeds


def going_on(path, folder):
    """The journal as a resumed run finds it: SQLite takes back what a kill left half written."""
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, folder)
    with closing(sqlite3.connect(folder / path.name)) as db:
        db.execute("SELECT count(*) FROM sqlite_master").fetchall()
    return ReadJournal(folder / path.name)


def has_tables(journal):
    """Whether the kill left it the time to make them; they come with the owner, last."""
    names = {row[0] for row in journal._db.execute("SELECT name FROM sqlite_master")}
    return {"attempt", "ending"} <= names


def drain(asked):
    """The seeds asked for since the last time."""
    if not asked.exists():
        return []
    seeds = [int(line) for line in asked.read_text().splitlines()]
    asked.unlink()
    return seeds


def prove(run, settings):
    """Nothing lost, nothing doubled, no half turn, every row what the journal says."""
    lineage = Lineage(settings, "r", "user", "assistant")
    audit = Audit(Agenda(settings, "r", 7), lineage, run)
    assert [problem for check in audit.checks() for problem in check.problems] == []
    assert not list(run.rglob("*.tmp"))


class Witness:
    """Watches one run from kill to kill."""

    def __init__(self, folder):
        self.run, self.asked, self.finished = folder / "run", folder / "asked", set()

    def look(self, settings):
        """After a session: what was finished before it was not asked for in it, and is there."""
        asked = drain(self.asked)
        assert self.finished.isdisjoint(asked)
        assert len(asked) == len(set(asked))
        now = finished_seeds(self.run, settings)
        assert self.finished <= now
        self.finished = now
        for path in (self.run / "conversations").glob("part-*.parquet"):
            read_conversations(path)  # whole, or it would not have the name


@pytest.mark.slow
def test_killed_at_random_moments_while_it_grows(tmp_path):
    chance, deaths, run_number = random.Random(20), 0, 0
    while deaths < ROUNDS:
        run_number += 1
        folder = tmp_path / str(run_number)
        folder.mkdir()
        witness, settings, begun = Witness(folder), settings_of(chance.randint(20, 80)), deaths
        while killed(witness.run, settings, witness.asked, after_s=chance.expovariate(5)):
            deaths += 1
            witness.look(settings)
            assert deaths - begun < 400, "no progress"
            if chance.random() < 0.1 and not settings.extended_at:
                settings = settings.grown(settings.conversations + chance.randint(1, 40))
        witness.look(settings)
        prove(witness.run, settings)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_pass_of_a_fault_point(tmp_path, point):
    settings, passes, step = settings_of(24), 0, 1
    while True:
        passes += step
        step = 1 if EVERY_POINT else max(1, passes)
        folder = tmp_path / str(passes)
        folder.mkdir()
        witness = Witness(folder)
        if not killed(witness.run, settings, witness.asked, fault=f"{point}:{passes}"):
            break
        witness.look(settings)
        assert not killed(witness.run, settings, witness.asked)
        witness.look(settings)
        prove(witness.run, settings)
    assert passes > 1, "the point is never passed"


def test_the_script_makes_every_kind_of_ending(tmp_path):
    settings = settings_of(150)
    figures = hold(tmp_path / "run", settings, tmp_path / "asked")
    assert figures["rejected"] > 0
    assert {"user_ended", "error", "repetition"} <= figures["stop_reasons"].keys()
    prove(tmp_path / "run", settings)
