"""Replicas: one conversation stays with one engine, many conversations spread over all."""

import asyncio

import pytest

from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines.replicas import Replicas
from usersim.engines.scripted import echo, repeating
from usersim.errors import WorldError


def say(engine, *texts):
    roles = ("user", "assistant") * len(texts)
    messages = [Message(role, text) for role, text in zip(roles, texts, strict=False)]
    return asyncio.run(engine.complete(messages, Sampling(seed=1))).text


def test_a_conversation_keeps_its_engine_and_many_use_all():
    replicas = Replicas([repeating("a"), repeating("b"), repeating("c")])
    used = set()
    for n in range(60):
        first = say(replicas, f"opener {n}")
        assert say(replicas, f"opener {n}", "answer", "more", "again", "and") == first
        used.add(first)
    assert used == {"a", "b", "c"}


def test_openers_go_round():
    replicas = Replicas([repeating("a"), repeating("b")])
    assert [say(replicas) for _ in range(4)] == ["a", "b", "a", "b"]


def test_all_are_opened_and_closed():
    replicas = Replicas.open([echo, echo])
    assert replicas.model == "echo"
    asyncio.run(replicas.close())
    assert all(engine.closed for engine in replicas.engines)


def test_when_one_cannot_be_opened_the_others_are_closed():
    opened = echo()

    def fail():
        raise WorldError("no memory")

    with pytest.raises(WorldError, match="no memory"):
        Replicas.open([lambda: opened, fail])
    assert opened.closed
