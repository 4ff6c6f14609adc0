"""Surface statistics have known answers, and the floor is made of disjoint halves."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.surface import (
    Shape,
    compare,
    describe,
    frequent_openings,
    halves,
    jensen_shannon,
    rounds_distribution,
    turn_statistics,
    wasserstein,
)

numbers = st.lists(st.integers(0, 500), min_size=1, max_size=40)


def talk(identity: str, *user_turns: str) -> Conversation:
    """A conversation in which every user turn is answered."""
    messages = [m for t in user_turns for m in (Message("user", t), Message("assistant", "Sure."))]
    return Conversation(id=identity, messages=tuple(messages))


def people(count: int, extra_words: int = 0) -> list[Conversation]:
    """Conversations of 1 to 3 rounds with turns of 1 to 7 words."""
    return [
        talk(
            f"p{i}",
            *["word " * (1 + (i * 3 + k) % 7 + extra_words) for k in range(1 + i % 3)],
        )
        for i in range(count)
    ]


def test_a_set_has_no_distance_to_itself() -> None:
    result = compare(people(40), people(40))
    assert [d["value"] for d in result["distance"].values()] == [0.0] * 6
    assert all(d["within"] for d in result["distance"].values())
    assert result["simulated"] == result["real"]


def test_one_more_word_in_every_turn_is_a_distance_of_one() -> None:
    distance = compare(people(40, extra_words=1), people(40))["distance"]
    assert distance["words_first"]["value"] == pytest.approx(1)
    assert distance["words_later"]["value"] == pytest.approx(1)
    assert distance["rounds"]["value"] == 0


def test_a_simulator_far_from_people_is_outside_the_floor() -> None:
    distance = compare(people(40, extra_words=50), people(40))["distance"]["words_first"]
    assert distance["within"] is False
    assert distance["value"] > distance["floor_high"] >= distance["floor"] > 0


def test_the_result_is_json_and_does_not_depend_on_order() -> None:
    real, simulated = people(30), people(17, extra_words=2)
    result = compare(simulated, real)
    json.dumps(result, allow_nan=False)
    assert compare(simulated[::-1], real[::-1]) == result


def test_one_round_conversations_have_no_later_turns_to_compare() -> None:
    single = [talk(f"s{i}", "hello there") for i in range(6)]
    result = compare(single, single)
    assert result["distance"]["words_later"]["value"] is None
    assert result["distance"]["words_later"]["within"] is None
    assert result["real"]["later"]["words_median"] is None


def test_a_single_real_person_gives_no_floor_rather_than_a_false_one() -> None:
    result = compare(people(3), people(1))
    assert result["distance"]["words_first"]["floor"] is None


def test_one_person_who_pastes_a_book_does_not_decide_the_distance() -> None:
    real = people(40)
    with_book = [*real[1:], talk(real[0].id, "word " * 20_000)]
    assert compare(with_book, real)["distance"]["words_first"]["value"] <= 100 / 40


def test_a_cap_on_rounds_can_be_told_from_leaving_early() -> None:
    real = [talk(f"r{i}", *["turn"] * (1 + i % 6)) for i in range(60)]
    capped = [
        replace(talk(f"s{i}", *["turn"] * min(3, 1 + i % 6)), stop_reason="max_rounds")
        for i in range(60)
    ]
    result = compare(capped, real)
    assert result["rounds_cap"] == 3
    assert result["distance"]["rounds_to_cap"]["value"] == 0
    assert result["distance"]["rounds"]["value"] > 0.1


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        compare([], people(2))


def test_turn_statistics_known_answers() -> None:
    turns = ["please help", "Thank you very much!", "why?", "A " * 101]
    found = turn_statistics(turns, sample=4)
    assert found["turns"] == 4
    assert found["words_median"] == 3
    assert found["words_mean"] == (2 + 4 + 1 + 101) / 4
    assert found["lower_case_start"] == 0.5
    assert found["ends_in_punctuation"] == 0.5
    for name in ("question_mark", "please", "thank", "over_100_words"):
        assert found[name] == 0.25, name
    assert found["up_to_3_words"] == 0.5


def test_distinct_shares_compare_equally_large_samples() -> None:
    few = [talk(f"few{i}", f"unlike any {i}") for i in range(5)]
    many = [talk(f"many{i}", f"unlike any {i % 5}") for i in range(50)]
    assert describe(few, 5, 0)["first"]["distinct_openings"] == 1
    in_result = compare(few, many)["real"]["first"]["distinct_openings"]
    assert in_result in {k / 5 for k in range(1, 6)}


def test_frequent_openings_count_the_first_three_words() -> None:
    talks = [talk("a", "Can you  help"), talk("b", "can you help me"), talk("c", "Hi")]
    assert frequent_openings(talks) == [("can you help", 2), ("hi", 1)]


def test_rounds_end_in_an_open_bin() -> None:
    shares = rounds_distribution([30, 1])
    assert shares[1] == shares[9] == 0.5
    assert sum(shares.values()) == 1


@given(st.integers(0, 60), st.integers(0, 5))
def test_halves_are_disjoint_and_lose_nobody(count: int, salt: int) -> None:
    left, right = (
        {s.id for s in half} for half in halves([Shape.of(c) for c in people(count)], salt)
    )
    assert not left & right
    assert left | right == {f"p{i}" for i in range(count)}
    assert abs(len(left) - len(right)) <= 1


@given(numbers, numbers, st.integers(0, 90))
def test_wasserstein_is_a_distance_and_shifts_add(a: list[int], b: list[int], shift: int) -> None:
    assert wasserstein(a, a) == 0
    assert wasserstein(a, b) == pytest.approx(wasserstein(b, a))
    assert wasserstein(a, [x + shift for x in a]) == pytest.approx(shift)


@given(numbers)
def test_wasserstein_of_equal_sizes_is_the_mean_gap_of_sorted_values(a: list[int]) -> None:
    b = [(x * 7) % 31 for x in a]
    gaps = [abs(x - y) for x, y in zip(sorted(a), sorted(b), strict=True)]
    assert wasserstein(a, b) == pytest.approx(math.fsum(gaps) / len(gaps))


def test_jensen_shannon_known_answers() -> None:
    assert jensen_shannon({1: 1.0}, {2: 1.0}) == 1
    assert jensen_shannon({1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5}) == 0
    expected = 0.5 * math.log2(4 / 3) + 0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2))
    assert jensen_shannon({1: 1.0}, {1: 0.5, 2: 0.5}) == pytest.approx(expected)
