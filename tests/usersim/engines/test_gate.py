"""The gate: everyone gets in, never more than there are places, and in groups where asked."""

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


def test_with_more_turns_than_places_a_free_one_is_taken_at_once():
    async def scene():
        gate = Gate(slots=4, group=4)
        turns = Turns(gate)
        turns.begin(*range(7))
        await settle()
        await turns.end(0)
        assert (gate.running, gate.waiting) == (4, 2)
        await turns.end(1)
        assert (gate.running, gate.waiting) == (4, 1)
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


def test_without_a_group_a_free_place_is_taken_at_once():
    async def scene():
        turns = Turns(Gate(slots=2))
        turns.begin("a", "b", "c")
        await settle()
        assert turns.inside == ["a", "b"]
        await turns.end("a")
        assert turns.inside == ["b", "c"]
        await turns.end("b", "c")

    played(scene)


@settings(deadline=None, max_examples=60)
@given(
    slots=st.integers(1, 12),
    group=st.integers(1, 20),
    talks=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), min_size=1, max_size=25),
)
def test_nobody_waits_for_ever_and_places_are_never_overdrawn(slots, group, talks):
    async def scene():
        gate, most, done = Gate(slots, group), 0, 0

        async def converse(lengths):
            nonlocal most, done
            for length in lengths:
                async with gate.turn():
                    most = max(most, gate.running)
                    for _ in range(length):
                        await asyncio.sleep(0)
            done += 1

        await asyncio.wait_for(asyncio.gather(*map(converse, talks)), 30)
        assert done == len(talks)
        assert most <= slots
        assert (gate.running, gate.waiting) == (0, 0)
        assert 0 <= gate.occupancy <= 1

    played(scene)


@pytest.mark.parametrize("entered", [True, False])
def test_who_gives_up_leaves_the_place_to_others(entered):
    async def scene():
        gate = Gate(slots=1)
        turns = Turns(gate)
        turns.begin("a", "b")
        await settle()
        turns.tasks["a" if entered else "b"].cancel()
        await settle()
        assert (gate.running, gate.waiting) == (1, 0)
        remaining = turns.inside[-1]
        assert remaining == ("b" if entered else "a")
        await turns.end(remaining)
        assert gate.running == 0

    played(scene)
