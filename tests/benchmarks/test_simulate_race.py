"""The race is fair and its verdict follows from its readings."""

import asyncio
import os
from functools import partial
from types import SimpleNamespace

from benchmarks.contestants import Arena, lock_step, oracle_long, oracle_prompts, ours
from benchmarks.meter import Reading
from benchmarks.readings import Readings
from benchmarks.simulate import OURS, A, B, judged, median, race
from benchmarks.workload import Work
from usersim.engines.gate import Gate
from usersim.engines.scripted import never_ending

WORK = Work(conversations=6, rounds=2, slots=2, mean=5.0)


def reading(rate, tokens=100, occupancy=0.9):
    return Reading(tokens, tokens / rate, 1.0, 10, occupancy, 0.5, 7)


class Logged:
    """A scripted engine on a host that notes what is asked of it."""

    model, context_tokens = "logged", 100_000

    def __init__(self, host):
        self.host, self._engine = host, never_ending()

    async def complete(self, messages, sampling):
        self.host.log.append("turn")
        return await self._engine.complete(messages, sampling)

    async def close(self):
        pass


def test_everybody_runs_in_turn_on_an_empty_cache():
    async def forget():
        host.log.append("forget")

    host = SimpleNamespace(gate=Gate(1), pids=[os.getpid()], log=[], forget=forget)
    arena = Arena({role: Logged(host) for role in ("user", "assistant")}, WORK)
    core = {OURS: partial(ours, group=1), A: oracle_prompts, B: oracle_long,
            "all": partial(lock_step, at_once=6)}  # fmt: skip
    found = Readings({})
    asyncio.run(race(arena, core, 2, found))
    readings = found.of
    assert {name: len(found) for name, found in readings.items()} == dict.fromkeys(core, 2)
    turns, runs = 6 * 2 * 2, "".join("|" if x == "forget" else "t" for x in host.log).split("|")[1:]
    assert [len(run) for run in runs] == [turns, turns, 6, turns] * 2
    assert all(r.tokens == WORK.tokens for found in readings.values() for r in found)


def test_efficiency_is_ours_over_the_better_oracle():
    readings = {
        OURS: [reading(80), reading(90), reading(100)],
        A: [reading(70)] * 3,
        B: [reading(100), reading(120), reading(90)],
    }
    told = judged(WORK, readings, 0.95)
    assert told["efficiency"] == 0.9
    assert (told["efficiency_bar"], told["occupancy"], told["occupancy_bar"]) == (0.95, 0.9, 0.94)
    assert told["contestants"][B]["spread"] == 0.3
    assert judged(Work(conversations=64), readings, 0.9)["occupancy_bar"] is None


def test_a_median_is_of_each_figure():
    found = median([reading(50, occupancy=0.1), reading(60, occupancy=0.3), reading(10)])
    assert (found["tokens_per_cpu_s"], found["occupancy"], found["computed"]) == (50.0, 0.3, 7)
