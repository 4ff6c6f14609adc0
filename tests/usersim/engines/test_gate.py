"""The gate: everyone gets in, and in groups where there are slots to spare."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.engines.gate import Gate


async def settle():
    for _ in range(4):
        await asyncio.sleep(0)


class Turns:
    """Turns that stay inside until they are told to end."""

    def __init__(self, gate):
        self.gate = gate
        self.inside = []
        self.tasks = {}

    def begin(self, *names):
        for name in names:
            self.tasks[name] = asyncio.create_task(self._hold(name))

    async def _hold(self, name):
        async with self.gate.turn():
            self.inside.append(name)
            end = asyncio.Event()
            self.ends = getattr(self, "ends", {}) | {name: end}
            await end.wait()
        self.inside.remove(name)

    async def end(self, *names):
        for name in names:
            self.ends[name].set()
        await settle()


def played(scene):
    return asyncio.run(scene())


def test_turns_wait_for_their_group_and_enter_together():
    async def scene():
        gate = Gate(slots=8, group=3)
        turns = Turns(gate)
        turns.begin(*range(8))
        await settle()
        assert turns.inside == list(range(8))
        await turns.end(0, 1)
        turns.begin("a", "b")
        await settle()
        assert (gate.running, gate.waiting) == (6, 2)
        await turns.end(2)
        turns.begin("c")
        await settle()
        assert (gate.running, gate.waiting) == (8, 0)
        assert turns.inside[-3:] == ["a", "b", "c"]
        await turns.end(*turns.inside)

    played(scene)


def test_with_more_turns_than_slots_nobody_waits():
    async def scene():
        gate = Gate(slots=4, group=4)
        turns = Turns(gate)
        turns.begin(*range(7))
        await settle()
        assert (gate.running, gate.waiting) == (7, 0)  # three of them in the engine's own queue
        turns.begin("a")
        await settle()
        assert (gate.running, gate.waiting) == (8, 0)
        await turns.end(*turns.inside)

    played(scene)


def test_half_of_those_under_way_are_a_group_too():
    async def scene():
        turns = Turns(Gate(slots=64, group=32))
        turns.begin("x", "y")
        await settle()
        assert turns.inside == ["x", "y"]
        await turns.end("x")
        turns.begin("again")
        await settle()
        assert "again" in turns.inside  # one waits, one runs: that is half
        await turns.end(*turns.inside)

    played(scene)


def test_without_a_group_everyone_enters_at_once():
    async def scene():
        gate = Gate(slots=8)
        turns = Turns(gate)
        for number in range(4):
            turns.begin(number)
            await settle()
            assert gate.running == number + 1
        await turns.end(*turns.inside)

    played(scene)


@settings(deadline=None, max_examples=60)
@given(
    slots=st.integers(1, 12),
    group=st.integers(1, 20),
    talks=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), min_size=1, max_size=25),
)
def test_nobody_waits_for_ever(slots, group, talks):
    async def scene():
        gate, done = Gate(slots, group), 0

        async def converse(lengths):
            nonlocal done
            for length in lengths:
                async with gate.turn():
                    assert 1 <= gate.running <= len(talks)
                    for _ in range(length):
                        await asyncio.sleep(0)
            done += 1

        await asyncio.wait_for(asyncio.gather(*map(converse, talks)), 30)
        assert done == len(talks)
        assert (gate.running, gate.waiting) == (0, 0)
        assert 0 <= gate.occupancy <= 1

    played(scene)


@pytest.mark.parametrize("entered", [True, False])
def test_who_gives_up_keeps_nobody_waiting(entered):
    async def scene():
        gate = Gate(slots=8, group=8)
        turns = Turns(gate)
        turns.begin("a", "b", "c")
        await settle()
        turns.begin("d")
        await settle()
        assert (gate.running, gate.waiting) == (3, 1)
        turns.tasks["a" if entered else "d"].cancel()
        await settle()
        assert (gate.running, gate.waiting) == ((2, 1) if entered else (3, 0))
        await turns.end("b", "c")  # and half of those under way may enter
        assert gate.waiting == 0
        await turns.end(*turns.inside)

    played(scene)


def test_who_gives_up_in_the_moment_of_entering_breaks_nothing():
    async def scene():
        gate = Gate(slots=8, group=2)
        turns = Turns(gate)
        turns.begin("a", "b", "c")
        await asyncio.sleep(0)  # they have come to the gate; it has not looked yet
        turns.tasks["b"].cancel()
        await settle()
        assert (sorted(turns.inside), gate.running, gate.waiting) == (["a", "c"], 2, 0)
        await turns.end("a", "c")
        assert gate.running == 0

    played(scene)
