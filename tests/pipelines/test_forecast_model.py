"""The model of the scheduler: known answers, and what no schedule can beat."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.forecast_model import Said, Speed, Worker, hold

STEADY = Speed(((1, 0.1), (101, 10.1)), prefill_s=0.01)  # 0.1 s a sequence and step


def worker(speed=STEADY, concurrency=8, capacity=2.0, slots=64):
    engines = {"user": (speed, 1, slots), "assistant": (speed, 1, slots)}
    return Worker(engines, concurrency, capacity)


def user(tokens, prompt=0.0):
    return Said("user", tokens, prompt)


def assistant(tokens, prompt=0.0):
    return Said("assistant", tokens, prompt)


def test_steps_lie_on_straight_lines_between_what_was_measured():
    speed = Speed(((1, 1.0), (11, 2.0), (21, 5.0)), 0.0)
    assert [speed.step_s(n) for n in (1, 6, 11, 16, 21, 31)] == pytest.approx(
        [1, 1.5, 2, 3.5, 5, 8]
    )
    assert Speed(((1, 0.5),), 0.0).step_s(64) == 0.5
    assert speed.scaled(2).step_s(6) == pytest.approx(3.0)


def test_one_conversation_takes_the_sum_of_its_turns():
    line = hold([[user(10, prompt=20), assistant(5, prompt=10)]], worker())
    assert line.seconds == pytest.approx(0.2 + 10 * 0.1 + 0.1 + 5 * 0.1)
    assert line.busy == pytest.approx({"user": 1.2, "assistant": 0.6})


def test_slots_that_are_fewer_wait_for_each_other():
    talks = [[user(10)]] * 6
    constant = Speed(((1, 0.1),), 0.0)  # a step takes as long for many as for one
    seconds = [hold(talks, worker(constant, concurrency=n)).seconds for n in (1, 2, 6)]
    assert seconds == pytest.approx([6.0, 3.0, 1.0])
    assert hold(talks, worker(constant, slots=2)).seconds == pytest.approx(3.0)  # the engine's own


def test_engines_share_a_device():
    talks = [[user(10)], [assistant(10)]]
    apart, together = (hold(talks, worker(capacity=c)).seconds for c in (2.0, 1.0))
    assert (apart, together) == pytest.approx((1.0, 2.0))
    remote = Speed(((1, 0.1),), 0.0, shared=False)
    elsewhere = Worker({"user": (STEADY, 1, 8), "assistant": (remote, 1, 8)}, 8, 1.0)
    assert hold(talks, elsewhere).seconds == pytest.approx(1.0)


def test_occupancy_is_counted_until_the_last_tenth():
    talks = [[user(10)]] * 40
    line = hold(talks, worker(Speed(((1, 0.1),), 0.0), concurrency=4))
    assert line.in_flight == pytest.approx(4.0)
    assert len(line.ended_at) == 40
    assert line.ended_at == sorted(line.ended_at)


turns = st.lists(st.builds(user, st.integers(1, 50), st.floats(0, 30)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(turns, min_size=1, max_size=20), st.integers(1, 12))
def test_no_schedule_beats_the_longest_talk_or_the_work_there_is(talks, concurrency):
    constant = Speed(((1, 0.1),), 0.01)
    line = hold(talks, worker(constant, concurrency))
    alone = [sum(0.1 * s.tokens + 0.01 * s.prompt for s in talk) for talk in talks]
    work = sum(0.1 * s.tokens for talk in talks for s in talk) / concurrency
    assert line.seconds >= max(*alone, work) - 1e-6
    assert line.seconds <= sum(alone) + 1e-6  # and it never idles while there is work
    assert len(line.ended_at) == len(talks)
