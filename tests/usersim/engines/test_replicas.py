"""Replicas: one conversation stays with one engine, many conversations spread over all."""

import asyncio

import pytest
from pydantic import ValidationError

from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines import EngineSpec, open_engine
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


@pytest.mark.parametrize(
    ("gpus", "tensor_parallel", "own"),
    [
        ("0,1", 1, ["0", "1"]),
        ("4, 5,6,7", 2, ["4,5", "6,7"]),
        ("3", 1, ["3", "3"]),
        ("", 1, ["", ""]),
    ],
)
def test_each_replica_has_devices_of_its_own(gpus, tensor_parallel, own, monkeypatch):
    opened = []

    def opens(spec):
        opened.append((spec.gpus, spec.replicas))
        return echo()

    monkeypatch.setattr("usersim.engines.vllm_engine.VllmEngine.open", opens)
    spec = EngineSpec(replicas=2, gpus=gpus, tensor_parallel=tensor_parallel)
    assert len(open_engine(spec).engines) == 2
    assert sorted(opened) == [(devices, 1) for devices in own]


@pytest.mark.parametrize(
    ("gpus", "tensor_parallel", "places"), [("0,1,2", 1, 2), ("0", 2, 4), ("0,1,2", 2, 4)]
)
def test_devices_that_cannot_be_dealt_out_evenly_are_refused(gpus, tensor_parallel, places):
    own = {"gpus": gpus, "tensor_parallel": tensor_parallel}
    with pytest.raises(ValidationError, match=rf"evenly to '{gpus}': list {places} devices"):
        EngineSpec(replicas=2, **own)
    assert EngineSpec(**own).gpus == gpus


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
