"""Every way of holding conversations makes the same turns, each once."""

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarks.contestants import Arena, lock_step, oracle_long, oracle_prompts, ours
from benchmarks.endpoint_threads import threads
from benchmarks.workload import Work
from usersim.engines.gate import Gate
from usersim.engines.scripted import never_ending

WORK = Work(conversations=10, rounds=2, slots=4, mean=6.0)


class Spoken:
    """A scripted engine that counts the tokens it makes, and stands for one on vLLM."""

    model, context_tokens = "spoken", 100_000

    def __init__(self):
        self.host = SimpleNamespace(gate=Gate(1))
        self.made = []
        self._engine = never_ending()

    async def complete(self, messages, sampling):
        async with self.host.gate.turn():
            completion = await self._engine.complete(messages, sampling)
        self.made.append((sampling.seed, completion.completion_tokens))
        return completion

    async def close(self):
        pass


def arena():
    return Arena({"user": Spoken(), "assistant": Spoken()}, WORK)


def made(arena):
    return sorted(turn for engine in arena.engines.values() for turn in engine.made)


EVERY_TURN = sorted(
    (plan.turn_seed(turn, 0), WORK.length(plan.turn_seed(turn, 0), turn))
    for plan in WORK.plans()
    for turn in range(2 * WORK.rounds)
)


@pytest.mark.parametrize(
    "contestant",
    [
        partial(ours, group=1),
        partial(ours, group=3),
        partial(lock_step, at_once=4),
        partial(lock_step, at_once=100),
        threads,
    ],
    ids=["ours", "groups", "chunks", "all", "threads"],
)
def test_every_turn_is_made_once_at_its_length(contestant):
    ring = arena()
    asyncio.run(contestant(ring))
    assert made(ring) == EVERY_TURN


def test_the_oracles_make_as_many_tokens_from_the_prompts_of_a_simulation():
    async def both():
        await ours(ring, group=1)
        for engine in ring.engines.values():
            engine.made.clear()
        await oracle_prompts(ring)
        first = made(ring)
        for engine in ring.engines.values():
            engine.made.clear()
        await oracle_long(ring)
        return first, made(ring)

    ring = arena()
    prompts, long = asyncio.run(both())
    assert prompts == EVERY_TURN
    assert len(long) == WORK.conversations
    assert sum(tokens for _, tokens in long) == WORK.tokens
