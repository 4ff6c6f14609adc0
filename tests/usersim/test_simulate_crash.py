"""Kill -9 at every kind of moment, and polite signals: nothing lost, nothing doubled."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from usersim.engines.scripted import talkative
from usersim.files import read_conversations
from usersim.simulate import SimulateSettings, simulate

PLANNED = 25
SETTINGS = {"conversations": PLANNED, "shard_size": 10, "concurrency": 6}

DRIVER = """
import os, signal, sys
from pathlib import Path
from usersim.engines.scripted import ScriptedEngine, talkative
from usersim.errors import WorldError
from usersim.simulate import SimulateSettings, simulate

run, settings = Path(sys.argv[1]), SimulateSettings.model_validate_json(sys.argv[2])
signals = {int(n): getattr(signal, name) for n, name in (a.split(":") for a in sys.argv[3:])}
asked = 0

def script(messages, sampling):
    global asked
    asked += 1
    if asked in signals:
        os.kill(os.getpid(), signals[asked])
    return talkative(2)._script(messages, sampling)

try:
    simulate(settings, ScriptedEngine(script, "u"), talkative(model="a"), run, "recipe-1", 7)
except WorldError as error:
    sys.exit(str(error))
"""


def start(run, *signals, fault=""):
    """Simulate in a process of its own, until it ends by itself or by a fault."""
    given = SimulateSettings(**SETTINGS).model_dump_json()
    root = Path(__file__).parents[2]
    environment = os.environ | {"REALCHAT_FAULT": fault, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", DRIVER, str(run), given, *signals]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def resume(run):
    """The same call, here and whole."""
    user, assistant = talkative(2, "u"), talkative(model="a")
    figures = simulate(SimulateSettings(**SETTINGS), user, assistant, run, "recipe-1", 7)
    return figures, user.calls + assistant.calls


def journaled(run):
    """Accepted turns, by conversation and position."""
    turns = {}
    for path in sorted((run / "journal").glob("*.sqlite")):
        with sqlite3.connect(path) as db:
            rows = db.execute(
                "SELECT conversation, position, attempt, text FROM attempt"
            ).fetchall()
        for conversation, position, attempt, text in rows:
            key = (conversation, position, attempt)
            assert key not in turns, "a turn stands twice"
            turns[key] = text
    return turns


def published(run):
    return [c for p in sorted((run / "conversations").glob("*")) for c in read_conversations(p)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an unbroken run makes."""
    run = tmp_path_factory.mktemp("whole")
    resume(run)
    return run


@pytest.mark.parametrize(
    "fault",
    [
        "journal.begin:1",
        "journal.inside:1",
        "journal.inside:9",
        "journal.commit:1",
        "journal.commit:6",
        "journal.commit:14",
        "shard.publish:1",
        "shard.publish:3",
        "shard.published:2",
    ],
)
def test_kill_9_costs_only_the_turns_in_flight(tmp_path, whole, fault):
    killed = start(tmp_path, fault=fault)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list((tmp_path / "conversations").glob("part-*.parquet")) or "shard" in fault
    kept = journaled(tmp_path)

    figures, asked = resume(tmp_path)

    after = journaled(tmp_path)
    assert kept.items() <= after.items()  # what was finished stands as it was
    assert asked == len(after) - len(kept)  # and was not asked for again
    assert after == journaled(whole)
    assert published(tmp_path) == published(whole)
    assert figures["conversations"] == PLANNED
    assert not list(tmp_path.rglob("*.tmp"))


def test_killed_again_and_again_it_still_arrives(tmp_path, whole):
    deaths = 0
    while start(tmp_path, fault="journal.commit:5").returncode == -signal.SIGKILL:
        deaths += 1
        assert deaths < 40, "no progress"
    assert deaths > 2
    assert published(tmp_path) == published(whole)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_drains_and_says_how_to_go_on(tmp_path, whole, name):
    stopped = start(tmp_path, f"20:{name}")
    assert stopped.returncode == 1
    assert f"stopped by {name};" in stopped.stderr
    assert "The same command resumes" in stopped.stderr
    kept = journaled(tmp_path)
    assert len(kept) >= 20  # the turns in flight were finished and written down
    _, asked = resume(tmp_path)
    assert asked == len(journaled(tmp_path)) - len(kept)
    assert published(tmp_path) == published(whole)


def test_a_second_signal_stops_at_once_and_loses_nothing_finished(tmp_path, whole):
    stopped = start(tmp_path, "20:SIGINT", "21:SIGINT")
    assert stopped.returncode == 1
    assert "stopped by SIGINT" in stopped.stderr
    resume(tmp_path)
    assert published(tmp_path) == published(whole)
