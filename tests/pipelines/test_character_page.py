"""The page of a character: figures with their intervals, and whatever was said is only text."""

import pytest

from assistant.characters.interviews import Interview, Said, write_interviews
from pipelines.character_page import NAMES, write_page

HALF = {"low": 0.1, "mean": 0.25, "high": 0.4}
PROBES = {"right": HALF, "margin": HALF, "pairs": 4}
ATTACK = "<script>alert(1)</script>"


def figures():
    kinds = {"fact": {"questions": 4, **HALF}, "machine": {"questions": 4, **HALF}}
    score = {"mean": HALF, "judgements": 8, "repeats": {"kappa": None, "icc": None, "replies": 4}}
    judged = {"scores": {"values": score}, "stability_by_turn": [{"turn": 1, "mean": 4.0}]}
    turns = {"distinct_openings": None, "thank": 0.5, "turns": 4, "words_median": 43}
    counts = {"replies": 8, "cut": 1, "words_mean": None, "interviewer_turns": turns}
    change = {"fact": {"right": HALF, "margin": HALF}, "boundary": {"right": HALF, "margin": HALF}}
    names = ("prompted", "trained")
    return {
        "life": f"Ann {ATTACK}",
        "probes": {n: {"fact": PROBES, "boundary": PROBES} for n in names}
        | {"changes": {"prompted_to_trained": change}},
        "people_turns": {"words_median": 11, "distinct_openings": 0.8, "thank": 0.02},
        "refusals": dict.fromkeys(names, kinds),
        "consistency": {
            "prompted": None,
            "trained": dict.fromkeys(("same", "other", "beyond"), HALF),
        },
        "refusal_changes": {"prompted_to_trained": {"boundary": HALF, "fact": HALF}},
        "interviews": dict.fromkeys(names, counts),
        "judged": {
            "judges": ["j"],
            "models": dict.fromkeys(names, judged),
            "length_controlled": {name: {"plain": 4.0, "controlled": 3.5} for name in names},
        },
    }


@pytest.fixture
def page(tmp_path):
    def written(asked):
        talk = (Said("user", ATTACK), Said("assistant", ATTACK, "length"))
        interview = Interview("Ann", "trained", "", "machine", ATTACK, 0, "rounds", talk)
        write_interviews(tmp_path / "character/asked/trained/interviews.jsonl", [interview])
        write_page(tmp_path / "character.html", {}, asked)
        return (tmp_path / "character.html").read_text()

    return written


def test_every_change_is_shown_with_its_interval(page):
    text = page(figures())
    assert text.count("+25 points [+10, +40]") == 4
    assert text.count("25 % [10, 40]") >= 8
    assert all(NAMES[name] in text for name in ("prompted", "trained"))


def test_what_a_model_said_is_escaped_and_nothing_is_loaded(page):
    text = page(figures())
    assert ATTACK not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_interviewer_stands_beside_people(page):
    """DC12: who asks with 43 words and thanks in every second turn is seen not to be a person."""
    text = page(figures())
    assert "turns have 43 words" in text
    assert "their turns have 11 words (median)" in text
    assert "their turns" not in page({**figures(), "people_turns": None})


def test_an_ablation_shows_what_protection_is_worth(page):
    asked = figures()
    assert 'id="protection"' not in page(asked)
    asked["probes"]["changes"]["unguarded_to_trained"] = asked["probes"]["changes"][
        "prompted_to_trained"
    ]
    assert page(asked).count("+25 points [+10, +40]") == 4 + 2


def test_a_page_without_a_judge_has_no_judge(page):
    asked = figures()
    del asked["judged"]
    assert 'id="judge"' not in page(asked)
