import numpy as np
import pytest
from made_talks import talk

from usersim.fidelity.decisions import Decisions
from usersim.fidelity.endings import best_threshold, calibration_curve, ending_figures
from usersim.fidelity.persons import persons_of
from usersim.fidelity.rounds import rounds_figures
from usersim.perplexity import TargetScore

RATE = 0.3


def people(number, seed, rate=RATE):
    """Persons who leave after each answer with the same chance, whatever was said."""
    generator = np.random.default_rng(seed)
    rounds = np.minimum(generator.geometric(rate, number), 9)
    return persons_of(
        talk(f"p{n}", *[f"turn {k}" for k in range(r)], stop_reason="user_ended")
        for n, r in enumerate(rounds.tolist())
    )


def scores_of(persons, chance):
    """What a model would give for every decision; `chance` maps (left, round) to a probability."""
    return [
        TargetScore(
            c.id, turn, 1.0, 1, chance(turn == len(c.turns), turn // 2), turn == len(c.turns)
        )
        for p in persons
        for c in p.conversations
        for turn in range(2, len(c.turns) + 1, 2)
    ]


def figures(persons, chance):
    return ending_figures(persons, {"user_model": scores_of(persons, chance)}, {})


def test_a_model_that_knows_the_rate_is_calibrated_and_tells_nothing():
    found = figures(people(400, 3), lambda left, rounds: RATE)
    model = found["user_model"]
    assert model["auc"]["value"] == 0.5
    assert model["precision"]["value"] == pytest.approx(found["true_rate"]["value"], abs=1e-3)
    assert model["calibration_error"] < 0.05
    error = found["by_round"]["1"]["error"]
    assert error["low"] < 0.0 < error["high"]
    assert error["within"]


def test_an_oracle_has_everything_right():
    model = figures(people(100, 0), lambda left, rounds: float(left))["user_model"]
    for name in ("precision", "recall", "f1", "auc"):
        assert model[name]["value"] == 1.0
    assert model["f1_threshold"] == 1.0


def test_a_model_that_never_leaves():
    found = figures(people(100, 0), lambda left, rounds: 1e-6)
    assert found["user_model"]["recall"]["value"] == pytest.approx(0.0, abs=1e-4)
    assert found["by_round"]["1"]["error"]["value"] == pytest.approx(-1.0, abs=1e-4)
    assert found["by_round"]["1"]["error"]["within"] is False


def test_baselines_are_what_they_are_called():
    found = figures(people(300, 1), lambda left, rounds: 0.5)
    rate = found["true_rate"]["value"]
    always = found["always_end"]
    assert always["recall"]["value"] == 1.0
    assert always["precision"]["value"] == pytest.approx(rate, abs=1e-3)
    assert always["f1"]["value"] == pytest.approx(2 * rate / (1 + rate), abs=1e-3)
    # Nothing tells who leaves in this process, and cross-fitted baselines don't pretend it does.
    assert found["logistic"]["auc"]["value"] == pytest.approx(0.5, abs=0.1)
    assert found["rates"]["auc"]["value"] == pytest.approx(0.5, abs=0.1)


def test_a_bias_is_applied_to_the_logit():
    persons = people(50, 0)
    scores = {"user_model": scores_of(persons, lambda left, rounds: 0.5)}
    found = ending_figures(persons, scores, {"user_model": np.log(3)})
    assert found["user_model"]["mean_probability"]["value"] == pytest.approx(0.75)


def test_a_conversation_that_was_cut_says_nothing_of_its_end():
    cut = talk("c", "one", "two", stop_reason="cut")
    ended = talk("e", "one", "two", stop_reason="user_ended")
    decisions = Decisions.of(persons_of([cut, ended]))
    assert decisions.keys == (("c", 2), ("e", 2), ("e", 4))
    assert decisions.left.tolist() == [0, 0, 1]


def test_without_any_leaving_there_is_no_figure():
    persons = persons_of(talk(f"c{n}", "one", "two", stop_reason="cut") for n in range(30))
    found = figures(persons, lambda left, rounds: 0.5)
    assert "user_model" not in found


def test_the_curve_of_a_known_process_lies_on_the_diagonal():
    generator = np.random.default_rng(0)
    chance = generator.uniform(0, 1, 20_000)
    left = (generator.uniform(0, 1, 20_000) < chance).astype(float)
    curve = calibration_curve(chance, left)
    assert [b["decisions"] for b in curve] == [2_000] * 10
    assert all(abs(b["probability"] - b["rate"]) < 0.03 for b in curve)


def test_the_best_threshold_takes_equals_together():
    chance, left = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    assert best_threshold(chance, left) == 0.5


def test_rounds_of_the_same_lengths_are_at_no_distance_and_the_cap_counts():
    real = people(60, 0)
    assert rounds_figures(real, real)["distance"]["value"] == 0.0
    capped = persons_of(
        talk(f"s{n}", *["turn"] * min(c.num_rounds, 2), stop_reason="max_rounds")
        for n, c in enumerate(c for p in real for c in p.conversations)
    )
    found = rounds_figures(capped, real)
    assert found["cap"] == 2
    assert found["distance"]["value"] == 0.0
    assert found["real"] != found["real_to_cap"] == found["simulated"]
