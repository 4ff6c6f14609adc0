import pytest
from made_talks import talk, talks

from usersim.fidelity.persons import persons_of
from usersim.fidelity.shares import plain_share, share_figure


def says(word):
    return lambda conversations: [
        [float(word in turn) for turn in c.user_turns] for c in conversations
    ]


def test_a_share_stands_beside_that_of_people_and_of_the_baseline():
    simulated = persons_of(talk(f"s{n}", "yes" if n < 10 else "no", "no") for n in range(40))
    real = persons_of(talk(f"r{n}", "yes" if n < 20 else "no", "no") for n in range(40))
    prompted = persons_of(talk(f"p{n}", "yes", "yes") for n in range(10))
    found = share_figure(simulated, real, prompted, says("yes"))
    assert (found["value"], found["floor"]) == (0.125, 0.25)
    assert found["low"] < 0.125 < found["high"]
    assert found["floor_high"] > 0.25
    assert found["prompted"]["value"] == 1.0
    assert found["difference"]["value"] == -0.125
    # With as many persons a side as a floor has: -1/8 against halves of people, who differ less.
    assert found["difference"]["value_at_floor_size"] == pytest.approx(0.125, abs=0.05)


def test_what_nobody_did_may_be_rare():
    """Who is drawn anew from 300 that never did is always 0: the bootstrap cannot tell how rare."""
    simulated, real = (persons_of(talk(f"{s}{n}", "no") for n in range(300)) for s in "sr")
    found = share_figure(simulated, real, (), says("yes"))
    ends = found["value"], found["low"], found["high"], found["floor_high"]
    assert ends == (0.0, 0.0, 0.0122, 0.0122)
    always = share_figure(simulated, real, (), says("no"))
    assert (always["low"], always["high"]) == (0.9878, 1.0)


def test_without_a_side_its_figures_are_not_known():
    found = share_figure((), persons_of(talks("r", 10, 1)), (), says("please"))
    assert found["value"] is None
    assert found["prompted"] is None
    assert 0 < found["floor"] < 1
    assert plain_share(0, 0) is None
