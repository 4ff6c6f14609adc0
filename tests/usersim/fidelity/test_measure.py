"""All points together: what cannot be known is left out with its reason."""

from dataclasses import replace

from made_talks import talks

from usersim.fidelity.measure import NO_ENDS, Material, measured
from usersim.fidelity.persons import persons_of


def test_where_records_break_off_says_nothing_of_how_long_people_talk():
    """Trees, prompts with one answer, two models talking: nobody there decided to leave."""
    simulated = persons_of(talks("s", 6, 1))
    people = talks("r", 6, 2)
    broken = persons_of(replace(c, stop_reason="cut") for c in people)
    table = measured(Material(real=broken, simulated=simulated))
    assert "rounds" not in table["termination"]
    assert table["left_out"]["termination.rounds"] == NO_ENDS
    one_left = persons_of([replace(people[0], stop_reason="user_ended"), *people[1:]])
    table = measured(Material(real=one_left, simulated=simulated))
    assert table["termination"]["rounds"]["distance"]["value"] is not None
    assert "termination.rounds" not in table["left_out"]
