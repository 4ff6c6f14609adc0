"""Caps hold, whoever comes first; rounds come to people's shares; nothing goes by default."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.balance import BalanceSettings, Member, kept_by_rounds, surplus

COUNTS = st.dictionaries(st.integers(1, 6), st.integers(1, 60), min_size=1)


def members(number=30):
    return [
        Member(f"m{i}", f"tell me about plant number {i} in my garden", 1 + i % 3, f"i{i % 2}")
        for i in range(number)
    ]


def test_nothing_goes_by_default():
    assert surplus(members(), BalanceSettings(), {1: 10}) == {}


def test_a_cap_keeps_so_many_of_each_and_the_order_does_not_matter():
    settings = BalanceSettings(max_per_intent=4)
    everyone = members()
    gone = {everyone[i].id for i in surplus(everyone, settings)}
    assert len(everyone) - len(gone) == 8
    shuffled = random.Random(1).sample(everyone, len(everyone))
    assert {shuffled[i].id for i in surplus(shuffled, settings)} == gone


def test_members_without_an_intent_or_persona_are_not_capped():
    settings = BalanceSettings(max_per_persona=1)
    assert surplus(members(), settings) == {}


def test_openers_alike_are_one_cluster():
    openers = ["how do i prune an old apple tree in march", "what is a sonnet anyway"]
    talks = [Member(f"a{i}", f"{openers[0]} please {i}", 1) for i in range(5)]
    talks.append(Member("b", openers[1], 1))
    gone = surplus(talks, BalanceSettings(max_per_opener_cluster=2))
    assert [s.reason for s in gone.values()] == ["opener_cluster"] * 3
    assert 5 not in gone


def test_rounds_come_to_the_shares_of_people():
    talks = [Member(f"m{i}", "x", 1 if i < 80 else 4) for i in range(100)]
    settings = BalanceSettings(rounds="as_people", max_excess=1.0)
    gone = surplus(talks, settings, {1: 50, 4: 25, 9: 25})
    kept = [talks[i].rounds for i in range(100) if i not in gone]
    assert abs(kept.count(1) - kept.count(4)) <= 1
    assert kept.count(4) == 20
    assert {s.reason for s in gone.values()} == {"round_balance"}


def test_rounds_come_to_shares_of_ones_own():
    talks = [Member(f"m{i}", "x", 1 if i < 80 else 4) for i in range(100)]
    settings = BalanceSettings(rounds={"1": 0.25, "4": 0.75}, max_excess=1.0)
    gone = surplus(talks, settings, {1: 99})
    kept = [talks[i].rounds for i in range(100) if i not in gone]
    assert abs(3 * kept.count(1) - kept.count(4)) <= 3
    assert kept.count(4) == 20
    with pytest.raises(ValidationError):
        BalanceSettings(rounds={0: 1.0})


@given(COUNTS, COUNTS, st.floats(1.0, 3.0))
def test_no_share_ends_above_the_excess(sizes, people, excess):
    kept = kept_by_rounds(sizes, people, excess)
    assert all(kept[rounds] <= size for rounds, size in sizes.items())
    total, top = sum(kept.values()), max(sizes)
    shares = {r: sum(n for k, n in people.items() if min(k, top) == r) for r in sizes}
    if total and any(shares.values()):
        everyone = sum(people.values())
        assert all(n < excess * shares[r] / everyone * total + 1 for r, n in kept.items())
