"""Prescribed work: a function of the plan alone, and the same for whoever does it."""

import asyncio
import statistics

from benchmarks.workload import LONGEST, SHARED_SYSTEM, SHORTEST, Prescribed, Work, fitted
from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines.scripted import never_ending

WORK = Work(conversations=300, rounds=3, slots=8, mean=20.0)


def test_lengths_have_the_mean_that_was_asked_for_and_known_bounds():
    lengths = [n for turns in WORK.lengths() for n in turns]
    assert len(lengths) == 300 * 6
    assert 0.75 * 20.0 < sum(lengths) / len(lengths) < 20.0  # the longest are cut
    assert min(lengths) >= SHORTEST
    assert max(lengths) <= LONGEST * 20.0
    assert WORK.tokens == sum(lengths)


def test_lengths_depend_on_the_turn_and_nothing_else():
    again = Work(conversations=300, rounds=3, slots=64, mean=20.0)
    assert again.lengths() == WORK.lengths()
    assert Work(seed=8).lengths() != Work(seed=9).lengths()


def test_real_lengths_are_those_of_people_and_of_answers():
    work = Work(conversations=400, rounds=3, real=True)
    people = [n for turns in work.lengths() for n in turns[::2]]
    answers = [n for turns in work.lengths() for n in turns[1::2]]
    assert 20 < statistics.median(people) < 50
    assert 60 < statistics.mean(people) < 94
    assert 160 < statistics.median(answers) < 210
    assert 260 < statistics.mean(answers) < 310
    assert max(map(sum, work.lengths())) < work.context


def test_a_turn_has_its_length_and_prompts_hold_what_was_said():
    engine = Prescribed(never_ending(), WORK, said := {})
    first = asyncio.run(engine.complete([], Sampling(seed=5)))
    assert first.completion_tokens == WORK.length(5, 0)
    assert first.finish_reason == "stop"
    heard = [Message("system", "ignored"), Message("user", first.text)]
    asyncio.run(engine.complete(heard, Sampling(seed=6)))
    assert engine.asked[1].messages == (SHARED_SYSTEM, Message("user", said[first.text]))
    assert len(said[first.text].split()) == WORK.length(5, 0)
    sampling = engine.asked[1].sampling
    assert sampling.min_tokens == sampling.max_tokens == WORK.length(6, 1)


def test_a_fit_gives_back_what_lengths_were_drawn_with():
    found = fitted([1, 1, 8, 8])
    assert (found["turns"], found["mean"], found["median"]) == (4, 4.5, 4.5)
    assert found["sigma"] == round(1.5 * 0.6931, 3)
