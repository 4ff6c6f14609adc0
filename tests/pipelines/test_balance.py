"""Caps hold, whoever comes first; rounds come to people's shares; nothing goes by default."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.balance import BalanceSettings, Members, kept_by_rounds, surplus
from usersim.surface import stable_hash

COUNTS = st.dictionaries(st.integers(1, 6), st.integers(1, 60), min_size=1)


def members(rounds, intents=None):
    """Members with the ids m0, m1, ..."""
    intent = [-1 if i is None else i for i in intents or [None] * len(rounds)]
    return Members(
        np.array([stable_hash(f"m{i}") for i in range(len(rounds))], dtype=np.uint64),
        np.array(rounds, dtype=np.int32),
        np.array(intent, dtype=np.int32),
        np.full(len(rounds), -1, dtype=np.int32),
        pa.array([f"intent {i}" for i in range(9)]),
    )


def gone(members, settings, *known):
    """Reasons by member."""
    found = surplus(members, settings, *known)
    return {i: found.told[why][0] for i, why in enumerate(found.why.tolist()) if why >= 0}


def test_nothing_goes_where_nothing_is_asked():
    settings = BalanceSettings(rounds="as_they_come")
    assert gone(members([1, 2, 3] * 10), settings, {1: 10}) == {}


def test_a_cap_keeps_so_many_of_each_and_the_order_does_not_matter():
    settings = BalanceSettings(max_per_intent=4)
    everyone = members([1] * 30, [i % 2 for i in range(30)])
    found = gone(everyone, settings)
    assert 30 - len(found) == 8
    order = np.array(random.Random(1).sample(range(30), 30))
    columns = (everyone.draw, everyone.rounds, everyone.intent, everyone.persona)
    shuffled = Members(*(column[order] for column in columns), everyone.names)
    assert {int(order[i]) for i in gone(shuffled, settings)} == set(found)
    assert surplus(everyone, settings).told[0] == ("intent_cap", "more than 4 of intent 0")


def test_members_without_an_intent_or_persona_are_not_capped():
    assert gone(members([1] * 30), BalanceSettings(max_per_persona=1, max_per_intent=1)) == {}


def test_rounds_come_to_the_shares_of_people():
    rounds = [1 if i < 80 else 4 for i in range(100)]
    settings = BalanceSettings(rounds="as_people", max_excess=1.0)
    found = gone(members(rounds), settings, {1: 50, 4: 25, 9: 25})
    kept = [rounds[i] for i in range(100) if i not in found]
    assert abs(kept.count(1) - kept.count(4)) <= 1
    assert kept.count(4) == 20
    assert set(found.values()) == {"round_balance"}


def test_rounds_come_to_shares_of_ones_own():
    rounds = [1 if i < 80 else 4 for i in range(100)]
    settings = BalanceSettings(rounds={"1": 0.25, "4": 0.75}, max_excess=1.0)
    found = gone(members(rounds), settings, {1: 99})
    kept = [rounds[i] for i in range(100) if i not in found]
    assert abs(3 * kept.count(1) - kept.count(4)) <= 3
    assert kept.count(4) == 20
    with pytest.raises(ValidationError):
        BalanceSettings(rounds={0: 1.0})


def test_numbers_of_rounds_that_were_never_simulated_cost_nothing():
    """People who left after one round say nothing of a simulation that begins with four."""
    assert kept_by_rounds({4: 60, 6: 40}, {1: 900, 4: 60, 6: 40}, 1.0) == {4: 60, 6: 40}


@given(COUNTS, COUNTS, st.floats(1.0, 3.0))
def test_no_share_ends_above_the_excess(sizes, people, excess):
    kept = kept_by_rounds(sizes, people, excess)
    assert all(kept[rounds] <= size for rounds, size in sizes.items())
    total, top = sum(kept.values()), max(sizes)
    shares = {r: sum(n for k, n in people.items() if min(k, top) == r) for r in sizes}
    if total and any(shares.values()):
        everyone = sum(shares.values())
        assert all(n < excess * shares[r] / everyone * total + 1 for r, n in kept.items())
