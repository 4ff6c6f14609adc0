"""A stage in its own process: killed, stopped and resumed, with scripted engines."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from pipelines.recipe import DEFAULT, Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_process import (
    QUIET,
    TRAINING_MEMORY,
    StageFailed,
    _hear_parent,
    _stop,
    carry_out,
    environment,
)
from pipelines.stage_table import stage_named
from usersim.errors import WorldError
from usersim.stopping import PASSED_ON

SCRIPTED = [
    "engines.user.kind=scripted",
    "engines.user.model=talkative",
    "engines.user.opens=user",
    "engines.assistant.kind=scripted",
    "engines.assistant.model=talkative",
]
SIMULATE = stage_named("simulate")


def scripted(conversations: int) -> Recipe:
    return Recipe.load(DEFAULT, [*SCRIPTED, f"simulate.conversations={conversations}"])


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def test_a_killed_stage_is_told_once_and_goes_on(run, monkeypatch):
    monkeypatch.setenv("REALCHAT_FAULT", "journal.commit:4")
    said = []
    with pytest.raises(WorldError, match="was killed") as caught:
        carry_out([SIMULATE], scripted(12), run, said.append)
    assert "goes on from here" in str(caught.value)
    assert not list(run.conversations.glob("*.parquet"))
    monkeypatch.delenv("REALCHAT_FAULT")
    carry_out([SIMULATE], scripted(12), run, said.append)
    assert run.metrics()["simulate"]["conversations"] == 12
    carry_out([SIMULATE], scripted(12), run, said.append)
    assert said[-1] == "simulate: already done, 0.0 s"


def test_a_stages_own_message_and_code_reach_the_caller(run, tmp_path):
    recipe = Recipe.load(DEFAULT, ["ingest.source=/nowhere/people.jsonl"])
    with pytest.raises(StageFailed, match=r"/nowhere/people\.jsonl") as caught:
        carry_out([stage_named("ingest")], recipe, run, lambda _: None)
    assert caught.value.exit_code == 2


def test_what_a_stage_prints_goes_to_its_log_and_progress_to_the_screen(run, capfd):
    carry_out([SIMULATE], scripted(3), run, lambda _: None)
    out, err = capfd.readouterr()
    assert out == ""
    assert "simulate: 3/3 conversations" in err
    assert (run.logs / "simulate.log").exists()


def test_a_stage_ends_with_its_parent_and_gives_the_folder_back(run):
    code = (
        "from pathlib import Path; import sys\n"
        "from pipelines.cli import app\n"
        f"app(['simulate', '--run', {str(run.root)!r}, 'simulate.conversations=100000', "
        f"*{SCRIPTED!r}])"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    for line in parent.stderr:
        if "0/100,000" in line:
            break
    parent.kill()
    parent.wait()
    handle = os.open(run.root / ".lock", os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # comes back when the child is gone
    finally:
        os.close(handle)
        parent.stderr.close()


DRAINING = """
import asyncio, sys
from usersim.stopping import Stopping
async def work():
    stopping, aborts = Stopping(), []
    stopping.abort = lambda: aborts.append(1)
    with stopping.on_signals():
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for _ in range(3):  # the loop hears of signals by a pipe, of threads at once
            await asyncio.sleep(0)
    sys.exit(7 if aborts else 0 if stopping.asked else 1)
asyncio.run(work())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_a_signal_to_the_whole_tree_is_one_request(number):
    child = subprocess.Popen(
        [sys.executable, "-c", DRAINING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    if number is not None:
        child.send_signal(number)
    _stop(child)  # as the parent does, which got it too
    assert child.returncode == 0


def test_what_the_parent_passes_on_is_a_ctrl_c_for_stages_that_do_not_drain():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, PASSED_ON)}
    try:
        _hear_parent()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(PASSED_ON)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_training_gets_the_memory_settings_and_others_do_not(monkeypatch):
    for name in [*TRAINING_MEMORY, *QUIET, "HF_HUB_OFFLINE"]:
        monkeypatch.delenv(name, raising=False)
    embedded = {"models": {"user": "smollm2-135m-instruct"}}
    training = environment(stage_named("train_user"), embedded)
    assert training.items() >= TRAINING_MEMORY.items()
    assert not TRAINING_MEMORY.keys() & environment(SIMULATE, embedded).keys()
    assert training["HF_HUB_OFFLINE"] == "1"
    server = {
        "engines": {"user": {"url": "http://host/v1"}},
        "curate": {"models": {"quality": "/x"}},
    }
    assert environment(SIMULATE, embedded | server)["HF_HUB_OFFLINE"] == "1"
    for online in [
        {"models": {"user": "some/model"}},
        {"ingest": {"source": "hub:some/people"}},
        {"engines": {"assistant": {"model": "some/model"}}},
        {"curate": {"judge": {"engine": {"model": "some/judge"}}}},
        {"curate": {"judge": {"reward_model": "some/judge"}}},
        {"curate": {"dedup": {"semantic": {"model": "some/embedding"}}}},
        {"curate": {"decontamination": {"benchmarks": ["mt-bench", "hub:some/set/file"]}}},
    ]:
        assert "HF_HUB_OFFLINE" not in environment(SIMULATE, online)


def test_what_the_caller_has_set_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert environment(stage_named("train_user"), {})["MALLOC_ARENA_MAX"] == "4"
