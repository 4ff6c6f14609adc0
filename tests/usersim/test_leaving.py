"""When people leave, and what makes a UserGPT leave as often, round by round."""

import math

import pytest
from pydantic import ValidationError

from usersim.conversation import Conversation, Message
from usersim.leaving import (
    bias_after,
    biased,
    calibrating_bias,
    end_table,
    learned_bias,
    leaving_rates,
    sum_of,
)
from usersim.perplexity import TargetScore
from usersim.plan import SimulateSettings


def decision(rounds, probability, is_end=False):
    return TargetScore("a", 2 * rounds, 1.0, 1, probability, is_end)


def test_the_end_table_compares_rates_after_the_first_answer():
    scores = [decision(0, 0.9), decision(1, 0.2), decision(2, 0.6, is_end=True)]
    table = end_table(scores)
    assert (table["decisions"], table["true_rate"]) == (2, 0.5)
    assert table["mean_probability"] == pytest.approx(0.4)
    later = end_table(scores, (0.0, 100.0))
    assert (later["mean_where_people_stayed"], later["mean_where_people_left"]) == (0.2, 1.0)


def talk(rounds, stop_reason="user_ended"):
    turns = [Message("user", "q"), Message("assistant", "a")] * rounds
    return Conversation(id="x", messages=tuple(turns), stop_reason=stop_reason)


def test_leaving_rates_count_who_left_of_those_who_were_still_there():
    people = [talk(1), talk(2), talk(2), talk(12), talk(3, "cut")]
    rates = leaving_rates(people)
    assert rates[1] == pytest.approx(1 / 5)
    assert rates[2] == pytest.approx(2 / 4)
    assert rates[3] == 0, "one went on, and of the one cut off after three rounds nothing is known"
    assert rates[9] == pytest.approx(1 / 4), "rounds 9 to 12 are pooled"


def test_the_calibrating_bias_brings_the_mean_probability_to_peoples_rates():
    given = (0.3, 0.5, 0.7, 0.4)
    bias = calibrating_bias([decision(0, 0.99), *(decision(1, p) for p in given)], {1: 0.25})
    mean = sum(biased(p, bias_after(1, bias)) for p in given) / 4
    assert mean == pytest.approx(0.25, abs=1e-3)


def test_rates_that_fall_with_the_rounds_come_out_at_each_of_them():
    rates = {n: 1 / (1 + math.exp(0.9 + 0.45 * math.log(n))) for n in range(1, 9)} | {9: 0.07}
    given = dict.fromkeys(rates, (0.15, 0.2, 0.3, 0.21))
    bias = calibrating_bias([decision(n, p) for n in given for p in given[n]], rates)
    for n, rate in rates.items():
        mean = sum(biased(p, bias_after(n, bias)) for p in given[n]) / 4
        assert mean == pytest.approx(rate, rel=0.01)
    assert bias_after(9, bias) == bias_after(40, bias) < bias_after(1, bias)


@pytest.mark.parametrize("given", [1e-9, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("rate", [0.001, 0.999])
def test_however_sure_a_model_is_peoples_rates_come_out(given, rate):
    found = calibrating_bias([decision(n, given) for n in (1, 2, 9)], {1: rate, 2: rate, 9: rate})
    for n in (1, 2, 9):
        assert biased(given, bias_after(n, found)) == pytest.approx(rate, abs=1e-3)


def test_without_both_outcomes_nothing_is_calibrated():
    assert calibrating_bias([decision(1, 0.0)], {1: 0.0}) == 0.0
    assert calibrating_bias([], {1: 0.5}) == 0.0


def test_a_list_of_no_bias_is_refused():
    assert SimulateSettings(end_bias=[0.5, 0]).end_bias == (0.5, 0.0)
    with pytest.raises(ValidationError, match="end_bias"):
        SimulateSettings(end_bias=[])


def test_biases_add_up_round_by_round():
    assert sum_of(0.5, -0.75) == -0.25
    assert sum_of(0.5, (0.0, 1.0)) == sum_of((0.0, 1.0), 0.5) == (0.5, 1.5)
    assert sum_of((1.0, 2.0), (1.0, 1.0, 3.0)) == (2.0, 3.0, 5.0)


def test_what_training_noted_is_read_whether_one_figure_or_a_list():
    assert learned_bias({"end_bias": -0.75}) == -0.75
    assert learned_bias({"end_bias": [0.5, -1]}) == (0.5, -1.0)
    assert learned_bias({}) == 0.0


def test_who_typed_again_before_the_record_broke_off_had_stayed():
    """Fidelity's decisions count them, too: the same people must have the same rates."""
    went_on = Conversation(
        id="x", messages=(*talk(2).messages, Message("user", "more")), stop_reason="cut"
    )
    assert leaving_rates([talk(2), went_on]) == {1: 0.0, 2: 0.5}
