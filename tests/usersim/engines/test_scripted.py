"""Scripted engines do what their names say."""

import asyncio

import pytest

from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines import EngineSpec, open_engine
from usersim.engines.scripted import (
    SCRIPTS,
    HeldEngine,
    ScriptedEngine,
    answers,
    dying,
    echo,
    never_ending,
    overloaded,
    refusing,
    repeating,
    talkative,
)
from usersim.errors import DeterministicError, EngineDead, InputError, TransientError

HELLO = [Message("user", "hello there")]


def say(engine, messages=HELLO, **sampling):
    return asyncio.run(engine.complete(messages, Sampling(**sampling)))


def test_what_they_say():
    assert say(echo()).text == "hello there"
    assert say(echo(), [], seed=4).text == "echo opens with seed 4"
    assert say(repeating("again")).text == "again"
    engine = answers(["one", "two"])
    assert [say(engine).text for _ in range(3)] == ["one", "two", ""]
    assert say(talkative(), seed=3) == say(talkative(), seed=3) != say(talkative(), seed=4)


def test_tokens_are_words_and_the_limit_cuts():
    cut = say(never_ending(), max_tokens=5, seed=1)
    assert (cut.finish_reason, cut.completion_tokens, len(cut.text.split())) == ("length", 5, 5)
    assert say(echo()).prompt_tokens == 2


def test_a_full_context_is_refused():
    with pytest.raises(DeterministicError) as refused:
        say(ScriptedEngine(lambda m, s: "x", context_tokens=10), max_tokens=9)
    assert refused.value.reason == "context_full"


def test_failures():
    engine = overloaded(echo(), times=2)
    for _ in range(2):
        with pytest.raises(TransientError):
            say(engine)
    assert say(engine).text == "hello there"
    with pytest.raises(DeterministicError):
        say(refusing(echo()))
    engine = dying(echo(), after=1)
    assert say(engine).text == "hello there"
    for _ in range(3):
        with pytest.raises(EngineDead):
            say(engine)


def test_a_held_engine_answers_when_released():
    async def held():
        released = asyncio.Event()
        engine = HeldEngine(echo(), released)
        task = asyncio.create_task(engine.complete(HELLO, Sampling()))
        await asyncio.sleep(0)
        assert engine.waiting == 1
        assert not task.done()
        released.set()
        return (await task).text

    assert asyncio.run(held()) == "hello there"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_opens_by_name(name):
    engine = open_engine(EngineSpec(kind="scripted", model=name, opens="user"))
    assert say(engine, seed=1).text


def test_an_unknown_script_is_refused():
    with pytest.raises(InputError, match="known: echo"):
        open_engine(EngineSpec(kind="scripted", model="nobody"))
