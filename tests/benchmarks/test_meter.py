"""The meter reads what it says: CPU time that was spent, slots that were filled."""

import os

import pytest

from benchmarks.meter import STEPS, Meter, Steps, cpu_seconds


def test_cpu_time_is_that_of_the_process_and_grows():
    before = cpu_seconds([os.getpid()])
    while cpu_seconds([os.getpid()]) - before < 0.05:
        sum(range(10_000))
    assert cpu_seconds([os.getpid(), os.getpid()]) >= 2 * before


def test_occupancy_leaves_out_the_drain():
    steps = Steps(made=[4] * 9 + [1] * 4)
    assert steps.occupancy(4) == pytest.approx(1.0)
    assert Steps(made=[2] * 20).occupancy(4) == pytest.approx(0.5)
    assert Steps().occupancy(4) == 0.0


def test_a_reading_begins_at_nothing():
    STEPS.made.append(3)
    STEPS.prompt = 10
    meter = Meter([os.getpid()])
    STEPS.made.extend([2, 2])
    STEPS.prompt, STEPS.cached = 8, 6
    reading = meter.read(tokens=4, slots=2)
    assert (reading.steps, reading.cache_hit_rate, reading.occupancy) == (2, 0.75, 1.0)
    STEPS.clear()
