"""Agreement: known answers, the ends of the scale, and what length alone explains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.characters.agreement import (
    icc,
    judge_agreement,
    length_controlled,
    stability_curve,
    summary,
    weighted_kappa,
)
from assistant.characters.judging import Judgement


def judgement(interview, score, words=10, **more):
    given = {"turn": 0, "dimension": "values", "repeat": 0, "judge": "j", "reason": "x"} | more
    return Judgement(interview=interview, score=score, words=words, **given)


def test_shrout_and_fleiss_own_example():
    """Table 2 of the 1979 paper: six targets, four judges, ICC(2,1) = 0.29."""
    ratings = [
        [9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7],
    ]  # fmt: skip
    assert icc(ratings) == pytest.approx(0.29, abs=0.005)


@given(st.lists(st.integers(1, 7), min_size=2, max_size=40))
def test_who_agrees_always_has_kappa_one_or_none(scores):
    found = weighted_kappa(scores, scores)
    assert found == (None if len(set(scores)) == 1 else 1.0)


def test_opposite_scores_disagree_and_nothing_to_compare_is_none():
    assert weighted_kappa([1, 7, 1, 7], [7, 1, 7, 1]) == -1.0
    assert weighted_kappa([], []) is None
    assert icc([[3.0, 3.0]]) is None
    assert icc([[3.0, 3.0], [3.0, 3.0]]) is None


def test_a_summary_has_intervals_and_how_far_repeats_agree():
    js = [judgement(n, 2 + n % 4, repeat=r) for n in range(20) for r in range(2)]
    found = summary(js)["values"]
    assert found["mean"]["low"] < found["mean"]["mean"] == 3.5 < found["mean"]["high"]
    assert found["repeats"] == {"kappa": 1.0, "icc": 1.0, "replies": 20}


def test_two_judges_are_compared_on_the_replies_that_both_judged():
    first = [judgement(n, 1 + n % 7) for n in range(14)]
    second = [judgement(n, 1 + n % 7, judge="k") for n in range(4, 20)]
    assert judge_agreement(first, second)["values"] == {"kappa": 1.0, "icc": 1.0, "replies": 10}


def test_stability_is_a_curve():
    """C13: a character that wears off is seen to wear off."""
    js = [
        judgement(n, 7 - turn, turn=turn, dimension="stability")
        for n in range(8)
        for turn in (1, 2, 3)
    ]
    curve = stability_curve(js)
    assert [(p["turn"], p["mean"]) for p in curve] == [(1, 6.0), (2, 5.0), (3, 4.0)]


def test_a_judge_that_only_likes_length_likes_nobody_when_length_is_controlled():
    import math

    def by_length(words):
        return round(1 + math.log2(words))

    short = [judgement(n, by_length(w), w) for n, w in enumerate([4, 8, 16] * 5)]
    long = [judgement(n, by_length(w), w) for n, w in enumerate([8, 16, 32] * 5)]
    found = length_controlled({"short": short, "long": long})
    assert found["long"]["plain"] - found["short"]["plain"] == 1.0
    assert found["long"]["controlled"] == pytest.approx(found["short"]["controlled"], abs=1e-3)
    assert length_controlled({"nobody": []}) == {}
