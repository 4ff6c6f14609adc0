"""What metrics say of the engines: what can be promised of a second run, and what tokens cost."""

import pytest

from usersim.engines import EngineSpec, Price, determinism
from usersim.engines.scripted import HeldEngine, ScriptedEngine, talkative
from usersim.simulate import SimulateSettings, about_engines, simulate

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
    told = about_engines({"user": EngineSpec(kind="endpoint", price=price)}, usage)
    assert told["cost"]["USD"]["user"] == 60 * 10 + 40 * 1 + 10 * 20
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
