from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_talks import talk, talks

from usersim.fidelity.persons import persons_of
from usersim.fidelity.variety import expected_distinct, variety_figures, word_similarity


def test_word_similarity_is_jaccard():
    found = word_similarity(["the red car", "The car, red!", "a blue car", "???"])
    assert found[0, 1] == 1.0
    assert found[0, 2] == pytest.approx(1 / 5)
    assert found[3].tolist() == [0, 0, 0, 1]


def diversity(openers):
    people = persons_of(talk(f"s{n:03}", text) for n, text in enumerate(openers))
    return variety_figures(people, persons_of(talks("r", 10, 1)))["first_turn_diversity"]


def test_diversity_counts_pairs_of_persons():
    assert diversity(["a b", "c d", "e f"])["simulated"] == 100.0
    assert diversity(["a b"] * 5)["simulated"] == 0.0
    # Of the three pairs one is equal and two share nothing.
    assert diversity(["a b", "a b", "c d"])["simulated"] == pytest.approx(100 * 2 / 3, abs=1e-3)


def test_planted_repeats_lower_diversity_by_the_right_amount():
    """With a share s of equal openers among n, a share s (s n - 1) / (n - 1) of pairs is lost."""
    distinct = [f"word{n} other{n}" for n in range(100)]
    repeats = ["same thing"] * 20 + distinct[20:]
    lost = 20 * 19 / (100 * 99)
    assert diversity(repeats)["simulated"] == pytest.approx(100 * (1 - lost), abs=1e-3)


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), st.data())
def test_rarefaction_is_the_mean_over_all_samples(keys, data):
    sample = data.draw(st.integers(1, len(keys)))
    total = len(keys)
    exact = sum(1 - comb(total - keys.count(k), sample) / comb(total, sample) for k in set(keys))
    assert expected_distinct(keys, sample) == pytest.approx(exact / sample)


def test_who_repeats_themselves_is_counted():
    people = [
        talk("s1", "what is the weather like", "go on then please", "go on then please"),
        talk("s2", "tell me a long story now", "another one", "and one more"),
    ]
    found = variety_figures(persons_of(people), persons_of(talks("r", 10, 1)))["repeated_turns"]
    assert found["simulated"] == 0.25


def test_distinct_openings_are_compared_at_one_size():
    many = persons_of(talk(f"s{n}", f"tell me about {n}") for n in range(40))
    few = persons_of(talk(f"r{n}", f"{n} is a number") for n in range(10))
    found = variety_figures(many, few)["distinct_openings"]
    assert found["sample"] == 10
    assert (found["real"], found["simulated"]) == (1.0, 0.1)


def test_the_baselines_openings_stand_beside():
    various = persons_of(talk(f"r{n}", f"{n} is a number") for n in range(10))
    same = persons_of(talk(f"p{n}", f"tell me about {n}") for n in range(10))
    found = variety_figures(various, various, same)["distinct_openings"]["difference"]
    assert (found["value"], found["prompted"]) == (0.0, {"value": -0.9})
