"""Each conversation as one request to vLLM that is fed turn by turn (its streaming input).

Between turns only the template and the last token are computed, where a request a turn computes
half a block of the cache again. It needs two roles that read the very same tokens with the same
weights, as in this benchmark and in no recipe: it stands here to show what that would be worth.
"""

import asyncio
from collections.abc import AsyncGenerator
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.contestants import ROLES, Arena
from benchmarks.workload import SHARED_SYSTEM, prescribed
from usersim.chat_format import ChatFormat
from usersim.conversation import Message
from usersim.plan import Plan

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.engine.protocol import StreamingInput

NUMBERS = count()


async def resumed(arena: Arena) -> None:
    """Hold every conversation of the work; as many at once as there are slots."""
    slots = asyncio.Semaphore(arena.work.slots)

    async def one(plan: Plan) -> None:
        async with slots:
            await _converse(arena, plan)

    await asyncio.gather(*map(one, arena.work.plans()))


async def _converse(arena: Arena, plan: Plan) -> None:
    ends: asyncio.Queue[int] = asyncio.Queue()
    llm = arena.engines["user"].host._llm
    assert llm is not None, "the engine is closed"
    outputs = llm.generate(
        _turns(arena, plan, ends), _drawn(arena, plan, 0), f"resumed-{next(NUMBERS)}"
    )
    made = 0
    async for output in outputs:
        for part in output.outputs:
            made += len(part.token_ids)
            if part.finish_reason is not None:
                ends.put_nowait(part.token_ids[-1])
    assert made == sum(_length(arena, plan, turn) for turn in range(2 * arena.work.rounds))


async def _turns(
    arena: Arena, plan: Plan, ends: "asyncio.Queue[int]"
) -> "AsyncGenerator[StreamingInput, None]":
    """What is to be read before each turn; vLLM has not computed the last token of one before."""
    from vllm.engine.protocol import StreamingInput
    from vllm.inputs import tokens_input

    chat = arena.engines["user"]._chat
    first = chat.prompt_ids([SHARED_SYSTEM], ROLES[0])
    yield StreamingInput(tokens_input(first), _drawn(arena, plan, 0))
    for turn in range(1, 2 * arena.work.rounds):
        prompt = [await ends.get(), *_between(chat, turn)]
        yield StreamingInput(tokens_input(prompt), _drawn(arena, plan, turn))
    await ends.get()


def _between(chat: ChatFormat, turn: int) -> list[int]:
    """What the template puts between the turn before and this one."""
    before, now = ROLES[(turn - 1) % 2], ROLES[turn % 2]
    until = chat.prompt_ids([SHARED_SYSTEM], before)
    word = 1  # "x" is one token
    return chat.prompt_ids([SHARED_SYSTEM, Message(before, "x")], now)[len(until) + word :]


def _drawn(arena: Arena, plan: Plan, turn: int) -> "SamplingParams":
    """How the turn is drawn, as `Arena.say` draws it; such a request must tell every token."""
    from vllm.sampling_params import RequestOutputKind

    settings, role = arena.work.settings(), ROLES[turn % 2]
    drawn = settings.user_sampling if role == "user" else settings.assistant_sampling
    sampling = prescribed(drawn.drawn(plan.turn_seed(turn, 0)), arena.work, turn)
    params = arena.engines[role]._params(sampling)
    params.output_kind = RequestOutputKind.DELTA
    return params


def _length(arena: Arena, plan: Plan, turn: int) -> int:
    return arena.work.length(plan.turn_seed(turn, 0), turn)
