import pytest

from usersim.fidelity.bars import bars

FIGURE = {"value": 0.15, "low": 0.1, "high": 0.2, "floor": 0.05, "within": False}


def table(**changes):
    """A fidelity table in which every bar holds but what `changes` says."""
    wanted = {
        "change": -0.3, "profile": -0.3, "both": -0.3, "error": 0.1, "auc": 0.55,
        "conversations": 300, "points": -2.0, "confusion": 0.0, "attempts": 0.01,
        "broken": 0.05, "ending": 0.05, "rounds": 0.01, "openers": 0.005,
    } | changes  # fmt: skip
    side = {"conversations": wanted["conversations"]}
    told = {"auc": wanted["auc"], "floor": 0.5, "floor_high": 0.6, "auc_at_floor_size": 0.5}
    statistics = {"please": {"real": 0.1, "simulated": 0.1, "error": {"value": wanted["error"]}}}
    rate = {"value": 0.2}
    return {
        "about": {"reference": side, "simulated": side},
        "perplexity": {
            "user_model": {"all": 14.0, "change": {"all": {"value": wanted["change"]}}},
            "with_profile": {"all": 13.0, "change": {"all": {"value": wanted["profile"]}}},
            "with_both": {"all": 12.0, "change": {"all": {"value": wanted["both"]}}},
            "prompted": {"all": 20.0},
            "floor": {"value": 0.05},
        },
        "surface": {"groups": {g: {"statistics": statistics} for g in ("first", "later")}},
        "two_sample": {g: {"linear": told, "fasttext": told} for g in ("first", "later")},
        "diversity": {"first_turn_diversity": {"difference": {"value": wanted["points"]}}},
        "role_adherence": {
            "confusion": {"value": wanted["confusion"]},
            "confusion_of_attempts": wanted["attempts"],
            "broken_down": {"value": wanted["broken"]},
        },
        "termination": {
            "by_round": {
                "1": {"error": {"value": wanted["ending"]}, "decisions": 300}
                | dict.fromkeys(("true_rate", "probability"), rate)
            },
            "rounds": {"distance": {"value": wanted["rounds"]}},
        },
        "memorisation": {"openers": {"value": wanted["openers"], "floor": 0.0}},
    }


def verdicts(**changes):
    found = bars(table(**changes), {"tokens_per_cpu_s": changes.get("speed", 300.0)})
    return {bar.name: bar.holds for bar in found}


def test_all_hold_where_all_is_well():
    assert set(verdicts().values()) == {True}
    assert len(verdicts()) == 16


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"change": -0.19}, "perplexity"), ({"profile": -0.24}, "profile"),
        ({"both": -0.24}, "words of theirs"),
        ({"error": -0.21}, "please"), ({"auc": 0.581}, "AUC"), ({"points": 3.1}, "diversity"),
        ({"attempts": 0.021}, "confusion"), ({"confusion": 0.03}, "confusion"),
        ({"broken": 0.11}, "loops"), ({"ending": -0.11}, "P(end)"), ({"rounds": 0.06}, "rounds:"),
        ({"openers": 0.02}, "openers"), ({"speed": 279.0}, "training"),
    ],
)  # fmt: skip
def test_each_bar_fails_on_its_own(change, word):
    failed = [name for name, holds in verdicts(**change).items() if not holds]
    assert failed
    assert all(word in name for name in failed)


def test_a_test_on_too_few_conversations_is_no_proof():
    found = verdicts(conversations=120)
    assert [holds for name, holds in found.items() if "AUC" in name] == [None] * 4


def test_conversations_that_never_got_an_answer_broke_down_too():
    found = table(broken=0.05)
    found["about"]["simulated"] = {"conversations": 300, "rejected": 30}
    found["role_adherence"]["broken_down"] |= {"low": 0.03, "high": 0.08}
    bar = next(b for b in bars(found, {}) if "loops" in b.name)
    assert bar.value == pytest.approx((15 + 30) / 330, abs=1e-3)
    assert bar.low < bar.value < bar.high
    assert bar.holds is False


def test_an_interval_is_that_of_the_figure_beside_it():
    made = table(confusion=0.0, attempts=0.01)
    made["role_adherence"]["confusion"] |= {"low": 0.0, "high": 0.004}
    bar = next(b for b in bars(made, {}) if "confusion" in b.name)
    assert (bar.value, bar.low, bar.high) == (0.01, None, None)


def test_it_is_said_where_people_themselves_miss_the_bound():
    made = table(error=0.3)
    one = made["surface"]["groups"]["first"]["statistics"]["please"]["error"]
    one["floor"] = 0.25
    bar = next(b for b in bars(made, {}) if b.name.startswith("please, first"))
    assert (bar.holds, bar.floor_holds) == (False, False)
    assert bar.to_dict()["floor_holds"] is False


def test_what_was_not_measured_is_not_known():
    assert {bar.holds for bar in bars({}, {})} == {None}
