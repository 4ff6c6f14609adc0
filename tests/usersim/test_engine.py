"""What is asked of engines together comes back together, or not at all."""

import asyncio

import pytest

from usersim.engine import all_or_none
from usersim.errors import EngineDead, TransientError


async def answer(number):
    await asyncio.sleep(0)
    return number


def test_answers_come_in_the_order_in_which_they_were_asked():
    assert asyncio.run(all_or_none(map(answer, range(5)))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("error", [EngineDead("gone"), TransientError("busy"), KeyError("bug")])
def test_the_first_error_is_raised_as_itself_when_nobody_waits_any_more(error):
    cancelled = []

    async def hang(number):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    async def fail():
        await asyncio.sleep(0)
        raise error

    async def everything():
        with pytest.raises(type(error)) as raised:
            await all_or_none([hang(0), answer(1), fail(), hang(2)])
        assert raised.value is error
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(everything())
    assert sorted(cancelled) == [0, 2]
