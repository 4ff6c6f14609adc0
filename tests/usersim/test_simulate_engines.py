"""Engines that die, and what metrics say of engines: what a second run gives, what tokens cost."""

import asyncio
import os
import signal
from contextlib import nullcontext

import pytest

from usersim.audit import Audit
from usersim.engines import EngineSpec, Price, determinism, open_engine
from usersim.engines.scripted import HeldEngine, ScriptedEngine, dying, talkative
from usersim.errors import EngineDead, WorldError
from usersim.files import read_conversations
from usersim.orphans import MARK
from usersim.outcome import Lineage
from usersim.plan import Agenda
from usersim.simulate import SimulateSettings, about_engines, simulate, simulate_async

SETTINGS = SimulateSettings(conversations=6, shard_size=6, max_rounds=2, retry_pause_s=0)


def scripted(opens, **changed):
    return EngineSpec(kind="scripted", model="talkative", opens=opens, **changed)


def test_tokens_are_counted_and_paid_by_role(tmp_path):
    dear = Price(prompt=1_000_000, completion=3_000_000, currency="EUR")
    user, assistant = scripted("user"), scripted("assistant", price=dear)
    figures = simulate(SETTINGS, user, assistant, tmp_path, "recipe-1", 7)
    usage = figures["usage"]
    assert usage["user"]["completion"] == figures["tokens"]["user"]
    assert usage["user"]["prompt"] + usage["assistant"]["prompt"] == figures["prompt_tokens"]
    paid = usage["assistant"]["prompt"] + 3 * usage["assistant"]["completion"]
    assert figures["cost"] == {"EUR": {"assistant": paid, "total": paid}}
    assert figures["determinism"] == {"user": "text", "assistant": "text"}


def test_without_prices_there_is_no_cost(tmp_path):
    figures = simulate(SETTINGS, scripted("user"), scripted("assistant"), tmp_path, "recipe-1", 7)
    assert "cost" not in figures


def test_cached_tokens_may_be_cheaper():
    usage = {"user": {"prompt": 100, "cached": 40, "completion": 10}}
    price = Price(prompt=10e6, cached=1e6, completion=20e6)
    told = about_engines({"user": EngineSpec(kind="endpoint", price=price)}, {"usage": usage})
    assert told["cost"]["USD"]["user"] == 60 * 10 + 40 * 1 + 10 * 20
    assert "cost_put_aside" not in told
    aside = {"usage": usage, "usage_put_aside": {"user": {"completion": 3}}}
    engines = {"user": EngineSpec(kind="endpoint", price=price)}
    assert about_engines(engines, aside)["cost_put_aside"] == {"USD": {"user": 60.0, "total": 60.0}}
    full = price.model_copy(update={"cached": None})
    assert full.of(100, 40, 10) == 100 * 10 + 10 * 20


@pytest.mark.parametrize(
    ("kind", "grade"), [("vllm", "plan"), ("endpoint", "plan"), ("scripted", "text")]
)
def test_the_grade_says_what_a_second_run_gives(kind, grade, monkeypatch):
    monkeypatch.delenv("VLLM_BATCH_INVARIANT", raising=False)
    assert determinism(EngineSpec(kind=kind)) == grade
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    assert determinism(EngineSpec(kind=kind)) == ("plan" if kind == "endpoint" else "text")
    assert determinism(talkative()) == "text"
    assert determinism(HeldEngine(talkative(), None)) == "plan"


def test_the_slots_that_were_used_are_told_by_role(tmp_path):
    class Slotted(ScriptedEngine):
        occupancy = 0.87654

    user = Slotted(talkative(2)._script, "u")
    figures = simulate(SETTINGS, user, talkative(model="a"), tmp_path, "recipe-1", 7)
    assert figures["slot_occupancy"] == {"user": 0.877}
    again = simulate(SETTINGS, talkative(2), talkative(), tmp_path, "recipe-1", 7)
    assert again["slot_occupancy"] == {"user": 0.877}  # nothing was held: the last sitting's


DEATHS = SETTINGS.model_copy(update={"conversations": 30, "shard_size": 12, "concurrency": 8})


def held_by(run, monkeypatch, lives):
    """Simulate; each engine of the assistant dies after so many answers, the last one never."""
    mortal = [dying(talkative(model="a"), after=after) for after in lives]
    left = iter([*mortal, talkative(model="a")])
    monkeypatch.setattr(
        "usersim.simulate.open_engine",
        lambda spec: talkative(2, "u") if spec.opens == "user" else next(left),
    )
    return simulate(DEATHS, scripted("user"), scripted("assistant"), run, "recipe-1", 7)


def rows(run):
    return [read_conversations(path) for path in sorted((run / "conversations").glob("*"))]


def test_an_engine_that_dies_is_opened_again_and_talks_go_on(tmp_path, monkeypatch, caplog):
    figures = held_by(tmp_path / "broken", monkeypatch, (20, 0, 0, 20, 0))
    whole = held_by(tmp_path / "whole", monkeypatch, ())
    assert (figures["sessions"], whole["sessions"]) == (5, 1)  # one was never asked for a turn
    assert sum("an engine died (scripted" in record.message for record in caplog.records) == 5
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert figures["usage"] == whole["usage"]  # nothing that was finished is asked for again


def test_an_engine_that_dies_whenever_it_is_opened_stops_the_run(tmp_path, monkeypatch):
    with pytest.raises(WorldError, match=r"an engine died: scripted: dead; .*same command resumes"):
        held_by(tmp_path, monkeypatch, (20, 0, 0, 0))
    assert held_by(tmp_path, monkeypatch, ())["conversations"] == 30


class Poisoned(ScriptedEngine):
    """Dies of certain turns, known by their seeds, and stays dead."""

    def __init__(self, seeds):
        self.dead, talks = False, talkative(model="a")

        def script(messages, sampling):
            self.dead = self.dead or sampling.seed in seeds
            if self.dead:
                raise EngineDead("scripted: dead")
            return talks._script(messages, sampling)

        super().__init__(script, "a")


@pytest.mark.parametrize(("poison", "commands"), [([0], 1), ([0, 17], 1), ([0, 1], 2)])
def test_a_conversation_that_its_engine_always_dies_of_ends(
    tmp_path, monkeypatch, poison, commands
):
    agenda = Agenda(DEATHS, "recipe-1", 7)
    seeds = {agenda.plan(index).turn_seed(1, 0) for index in poison}
    monkeypatch.setattr(
        "usersim.simulate.open_engine",
        lambda spec: talkative(2, "u") if spec.opens == "user" else Poisoned(seeds),
    )
    for left in reversed(range(commands)):
        with pytest.raises(WorldError, match="an engine died") if left else nullcontext():
            figures = simulate(
                DEATHS, scripted("user"), scripted("assistant"), tmp_path / "broken", "recipe-1", 7
            )
    assert figures["rejected_reasons"] == {"engine_died": len(poison)}
    held_by(tmp_path / "whole", monkeypatch, ())
    spoiled = {agenda.plan(index).id for index in poison}
    others = [[row for row in shard if row.id not in spoiled] for shard in rows(tmp_path / "whole")]
    assert rows(tmp_path / "broken") == others


@pytest.mark.parametrize("shared", [False, True])
def test_orphans_are_ended_before_engines_open_and_what_these_start_is_marked(
    tmp_path, monkeypatch, shared
):
    monkeypatch.delenv(MARK, raising=False)
    seen = []

    def opened(opens):
        seen.append(MARK in os.environ)
        return talkative(2 if opens == "user" else None, opens)

    monkeypatch.setattr("usersim.simulate.reap", lambda: seen.append("reaped"))
    monkeypatch.setattr("usersim.simulate.open_engine", lambda spec: opened(spec.opens))
    monkeypatch.setattr(
        "usersim.simulate.open_shared", lambda specs: {role: opened(role) for role in specs}
    )
    user, assistant = (EngineSpec(opens=r, shared=shared) for r in ("user", "assistant"))
    simulate(SETTINGS, user, assistant, tmp_path, "recipe-1", 7)
    assert seen == ["reaped", True, True]
    assert MARK not in os.environ


@pytest.mark.slow
def test_a_real_engine_whose_process_is_killed_is_opened_again(
    tmp_path, served_checkpoint, monkeypatch, caplog
):
    spec = EngineSpec(model=str(served_checkpoint), opens="assistant", kv_cache_gb=0.2, name="tiny")
    hosts, turns = [], []
    talks = talkative(3, "u")

    def script(messages, sampling):
        turns.append(sampling.seed)
        if len(turns) == 12:
            for pid in hosts[0].pids:
                os.kill(pid, signal.SIGKILL)
        return talks._script(messages, sampling)

    def opened(spec):
        if spec.kind == "scripted":
            return ScriptedEngine(script, "u")
        engine = open_engine(spec)
        hosts.append(engine.host)
        return engine

    monkeypatch.setattr("usersim.simulate.open_engine", opened)
    changed = {"assistant_sampling": {"max_tokens": 8}, "conversations": 16, "shard_size": 8}
    settings = SimulateSettings(**SETTINGS.model_dump() | changed)
    figures = simulate(settings, scripted("user"), spec, tmp_path, "recipe-1", 7)
    assert (len(hosts), figures["sessions"], figures["planned"]) == (2, 2, 16)
    assert any("the vLLM process has died" in record.message for record in caplog.records)
    lineage = Lineage(settings, "recipe-1", "talkative", "tiny")
    audit = Audit(Agenda(settings, "recipe-1", 7), lineage, tmp_path)
    assert [problem for check in audit.checks() for problem in check.problems] == []


def test_a_text_that_cannot_be_written_stops_the_run_and_never_hangs_it(tmp_path):
    """No engine of ours says such a thing; whatever does is a bug, and bugs stop."""
    said = iter(["half \ud83d a character"])
    broken = ScriptedEngine(lambda m, s: next(said, "") or talkative()._script(m, s), "a")

    async def hold():
        running = simulate_async(SETTINGS, talkative(), broken, tmp_path, "recipe-1", 7)
        await asyncio.wait_for(running, timeout=30)

    with pytest.raises(UnicodeEncodeError):
        asyncio.run(hold())
    figures = simulate(SETTINGS, talkative(), broken, tmp_path, "recipe-1", 7)
    assert figures["conversations"] == 6
