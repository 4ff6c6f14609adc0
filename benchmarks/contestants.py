"""Ways to hold the same conversations on the same engine, and two oracles that hold none.

Each is a coroutine over an `Arena` that makes every turn of the work once. The oracles know what
no scheduler can: A is given every turn's prompt in advance, B makes each conversation's tokens in
one go, as if nobody ever had to listen.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.workload import SHARED_SYSTEM, Asked, Prescribed, Work, prescribed
from usersim.conversation import Message, Role
from usersim.engine import Engine
from usersim.engines.gate import Gate
from usersim.engines.vllm_engine import VllmEngine
from usersim.plan import Plan
from usersim.simulate import simulate_async

ROLES: tuple[Role, Role] = ("user", "assistant")


@dataclass(slots=True)
class Arena:
    """The engines of the two roles, the work, and the prompts that a simulation asked for."""

    engines: dict[Role, VllmEngine]
    work: Work
    recorded: list[Asked] = field(default_factory=list)

    def gate(self, group: int | None) -> None:
        """Admission of all engines: in groups, or (None) left to vLLM alone."""
        for engine in self.engines.values():
            engine.host.gate = Gate(self.work.slots, group or 1)

    async def say(self, plan: Plan, turn: int, said: Sequence[str]) -> str:
        """One turn of a conversation, for schedulers that are not ours."""
        role = ROLES[turn % 2]
        messages = [Message(ROLES[n % 2], text) for n, text in enumerate(said)]
        settings = self.work.settings()
        drawn = settings.user_sampling if role == "user" else settings.assistant_sampling
        sampling = prescribed(drawn.drawn(plan.turn_seed(turn, 0)), self.work, turn)
        completion = await self.engines[role].complete([SHARED_SYSTEM, *messages], sampling)
        return completion.text or "."


Contestant = Callable[[Arena], Awaitable[None]]


async def ours(arena: Arena, group: int) -> None:
    """`realchat simulate`: one coroutine a conversation, journal and all."""
    arena.gate(group)
    said: dict[str, str] = {}
    user, assistant = (Prescribed(arena.engines[r], arena.work, said) for r in ROLES)
    with tempfile.TemporaryDirectory() as folder:
        settings, seed = arena.work.settings(), arena.work.seed
        await simulate_async(settings, user, assistant, Path(folder), "bench", seed)
    arena.recorded = [*user.asked, *assistant.asked]


async def oracle_prompts(arena: Arena) -> None:
    """A: one `generate` over every turn's prompt, known in advance from a simulation."""
    arena.gate(None)

    async def one(asked: Asked) -> None:
        role = ROLES[(len(asked.messages) - 1) % 2]
        await arena.engines[role].complete(asked.messages, asked.sampling)

    await asyncio.gather(*map(one, arena.recorded))


async def oracle_long(arena: Arena) -> None:
    """B: one long generation of the same number of tokens a conversation."""
    arena.gate(None)
    openers = {a.sampling.seed: a for a in arena.recorded if len(a.messages) == 1}

    async def one(plan: Plan, lengths: list[int]) -> None:
        opener = openers[plan.turn_seed(0, 0)]
        total = sum(lengths)
        sampling = replace(opener.sampling, min_tokens=total, max_tokens=total)
        await arena.engines["user"].complete(opener.messages, sampling)

    await asyncio.gather(*map(one, arena.work.plans(), arena.work.lengths()))


async def lock_step(arena: Arena, at_once: int) -> None:
    """Turn by turn, `at_once` conversations together; all wait for the longest reply."""
    arena.gate(None)
    plans = arena.work.plans()
    for start in range(0, len(plans), at_once):
        chunk = plans[start : start + at_once]
        said: list[list[str]] = [[] for _ in chunk]
        for turn in range(2 * arena.work.rounds):
            turns = [arena.say(p, turn, s) for p, s in zip(chunk, said, strict=True)]
            for texts, text in zip(said, await asyncio.gather(*turns), strict=True):
                texts.append(text)


__all__ = ["Arena", "Contestant", "Engine", "lock_step", "oracle_long", "oracle_prompts", "ours"]
