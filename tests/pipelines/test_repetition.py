from hypothesis import given
from hypothesis import strategies as st

from pipelines.repetition import duplicate_share, looping_tail

WORDS = st.lists(st.sampled_from(["a", "b", "c", "dog"]), max_size=60)


def test_distinct_runs_have_no_duplicate_share_and_copies_have_much():
    once = [str(i) for i in range(60)]
    assert duplicate_share(once, 6) == 0.0
    assert duplicate_share(once * 3, 6) == 1 - 60 / 175


@given(WORDS, st.integers(1, 6))
def test_the_share_is_one_minus_distinct_over_all(words, length):
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    expected = 1 - len(set(runs)) / len(runs) if runs else 0.0
    assert duplicate_share(words, length) == expected


@given(WORDS, st.lists(st.sampled_from(["go", "on", "now"]), min_size=1, max_size=5))
def test_four_copies_of_a_unit_at_the_end_are_a_loop(words, unit):
    assert looping_tail(words + unit * 4, 3) is not None


def test_three_copies_short_tails_and_digits_are_no_loop():
    unit = ["the", "cat", "sat", "on", "the", "mat"]
    assert looping_tail(unit * 3, 3) is None
    assert looping_tail(["ha"] * 12, 12) is None
    assert looping_tail(["0"] * 50, 12) is None
    assert looping_tail([], 12) is None
