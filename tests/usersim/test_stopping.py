"""Requests to stop: one that reaches a process twice, by its parent too, is one."""

import asyncio
import os
import signal

import pytest

from usersim.stopping import PASSED_ON, Stopping


def heard(*numbers):
    """What the signals ask for: the word kept, and how often it aborts."""
    stopping, aborts = Stopping(), []
    stopping.abort = lambda: aborts.append(1)

    async def scene():
        with stopping.on_signals():
            for number in numbers:
                os.kill(os.getpid(), number)
                for _ in range(3):  # the loop hears of signals by a pipe, a round later
                    await asyncio.sleep(0)

    asyncio.run(scene())
    return stopping.asked, len(aborts)


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("numbers", "asked", "aborts"),
    [
        ((INT,), "SIGINT", 0),
        ((INT, INT), "SIGINT", 1),
        ((TERM, INT), "SIGTERM", 1),
        ((PASSED_ON,), "SIGUSR1", 0),
        ((TERM, PASSED_ON), "SIGTERM", 0),  # the whole tree was asked, and the parent passes it on
        ((PASSED_ON, TERM), "SIGUSR1", 0),  # the same, the other way
        ((INT, PASSED_ON, INT), "SIGINT", 1),
        ((PASSED_ON, PASSED_ON), "SIGUSR1", 0),
    ],
)
def test_two_requests_of_ones_own_abort(numbers, asked, aborts):
    before = [signal.getsignal(number) for number in (INT, TERM, PASSED_ON)]
    assert heard(*numbers) == (asked, aborts)
    assert [signal.getsignal(number) for number in (INT, TERM, PASSED_ON)] == before
