"""The adaptive limit: halved by a refusal, once for all who were sent before; raised by answers."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from usersim.engines.limit import AdaptiveLimit


async def settle():
    for _ in range(3):
        await asyncio.sleep(0)


def test_refusals_of_one_moment_cut_once_and_answers_win_it_back():
    async def scene():
        limit = AdaptiveLimit(16)
        tickets = [await limit.enter() for _ in range(16)]
        for ticket in tickets:
            limit.refused(ticket)
            limit.leave()
        assert (limit.limit, limit.cuts) == (8.0, 1)
        later = await limit.enter()
        limit.refused(later)
        limit.leave()
        assert limit.limit == 4.0
        for _ in range(4):
            limit.answered()
        assert 4.9 < limit.limit <= 5.0
        for _ in range(1000):
            limit.answered()
        assert limit.limit == 16.0

    asyncio.run(scene())


def test_never_less_than_one():
    async def scene():
        limit = AdaptiveLimit(2)
        for _ in range(5):
            limit.refused(await limit.enter())
            limit.leave()
        assert limit.limit == 1.0
        await asyncio.wait_for(limit.enter(), 5)

    asyncio.run(scene())


def test_nobody_enters_while_it_is_shut():
    async def scene():
        limit = AdaptiveLimit(4)
        with limit.shut():
            waiting = [asyncio.create_task(limit.enter()) for _ in range(2)]
            with limit.shut():
                await settle()
            await settle()
            assert limit.running == 0
        await asyncio.gather(*waiting)
        assert limit.running == 2

    asyncio.run(scene())


def test_who_is_cancelled_keeps_no_place():
    async def scene():
        limit = AdaptiveLimit(1)
        await limit.enter()
        outside = asyncio.create_task(limit.enter())
        await settle()
        limit.leave()  # lets it in ...
        outside.cancel()  # ... in the moment in which it gives up
        await settle()
        assert limit.running == 0
        await asyncio.wait_for(limit.enter(), 5)

    asyncio.run(scene())


@given(st.integers(1, 8), st.lists(st.booleans(), max_size=60))
def test_at_most_as_many_as_allowed(most, verdicts):
    async def scene():
        limit, seen = AdaptiveLimit(most), 0

        async def ask(refused):
            nonlocal seen
            ticket = await limit.enter()
            seen = max(seen, limit.running)
            assert limit.running <= most
            await asyncio.sleep(0)
            if refused:
                limit.refused(ticket)
            else:
                limit.answered()
            limit.leave()

        await asyncio.gather(*map(ask, verdicts))
        assert 1.0 <= limit.limit <= most
        assert limit.running == 0

    asyncio.run(scene())
