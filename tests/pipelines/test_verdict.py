"""The first screen answers in words that somebody understands who has never seen the project."""

import json

import pytest
from made_run import metrics, talks

from pipelines.filters import REASONS
from pipelines.run_view import RunView
from pipelines.verdict import IN_WORDS, reasons_told, verdict

NEAR = {"value": 1.0, "floor": 1.0, "floor_high": 2.0, "within": True}
FAR = {"value": 9.0, "floor": 1.5, "floor_high": 2.0, "within": False}


def view_of(tmp_path, license="cc-by-4.0", **changed):
    told = metrics()
    told["curate"] |= changed
    kept = talks("kept", 9, 3, source="elsewhere", license=license)
    return RunView(tmp_path, told, kept=kept, simulated=kept)


def surface(*within):
    names = ("words_first", "words_later", "rounds_to_cap")
    near = dict(zip(names, within, strict=True))
    return {"distance": {name: NEAR if yes else FAR for name, yes in near.items()}}


def test_the_four_questions_are_answered_with_figures_and_reasons(tmp_path):
    answers = verdict(view_of(tmp_path), surface(True, False, True)).answers
    many, like, lost, publish = answers
    assert (many.short, many.beside) == ("219", "kept of 240 simulated")
    assert (like.short, like.good) == ("in part", None)
    assert like.told.startswith("In 2 of 3 measures no farther")
    assert "Farthest: length of later turns, 6.0 times" in like.told
    assert (lost.short, lost.beside) == ("24", "of 243 (10%)")
    assert lost.told.startswith("9 assistant refusal, 5 role confusion, ")
    assert publish.short.startswith("yes, under cc-by-4.0") or "gate" in publish.short


@pytest.mark.parametrize(
    ("license", "says"),
    [
        ("", "The license of elsewhere is not known."),
        ("cc-by-nd-4.0", "Cc-by-nd-4.0 forbids"),
    ],
)
def test_why_it_may_not_be_published_is_one_sentence(tmp_path, license, says):
    view = view_of(tmp_path, license)
    view.metrics.pop("curate")
    publish = verdict(view, None).answers[3]
    assert (publish.short, publish.good) == ("not as it is", False)
    assert publish.told.startswith(says)


@pytest.mark.parametrize(
    ("within", "line", "good"),
    [((True,) * 3, "Yes: ", True), ((True, False, False), "Clean, and in part", None),
     ((False,) * 3, "Clean, but not like", None)],
)  # fmt: skip
def test_the_line_weighs_the_gate_and_likeness(tmp_path, within, line, good):
    found = verdict(gated(view_of(tmp_path), 0.5), surface(*within))
    assert found.line.startswith(line)
    assert found.good is good


def gated(view, least):
    """A run whose recipe bounds the share kept, and nothing else."""
    others = ("max_duplicates", "max_personal_data", "max_contaminated", "max_memorised",
              "max_memorised_openers")  # fmt: skip
    view.recipe = json.dumps({"gate": dict.fromkeys(others) | {"min_kept_share": least}})
    return view


def test_what_the_gate_could_not_look_at_is_not_counted_as_held(tmp_path):
    view = view_of(tmp_path)
    view.recipe = json.dumps({"gate": {"max_duplicates": None, "max_personal_data": None}})
    assert "all 1 bounds of its gate hold, 3 not looked at" in verdict(view, None).line


def test_an_open_gate_is_told_before_anything_else(tmp_path):
    found = verdict(gated(view_of(tmp_path), 0.99), surface(True, True, True))
    assert found.good is False
    assert found.line.startswith("No: ")
    assert found.answers[3].short == "no, the gate fails"


def test_an_empty_run_says_what_to_run(tmp_path):
    found = verdict(RunView(tmp_path, {}), None)
    assert found.line.startswith("Not known yet")
    assert [a.verb for a in found.answers] == ["simulate", "report", "curate", "simulate"]


def test_every_rule_of_curation_has_plain_words():
    assert [reason for reason in REASONS if reason not in IN_WORDS] == []


def test_rare_reasons_are_added_up_and_none_is_nothing():
    lost = [("tellable", 9), ("refusal", 3), ("odd_one", 2), ("slur", 1), ("echo", 1), ("toxic", 1)]
    told = reasons_told(lost)
    assert told.startswith("9 easiest to tell from people's, 3 with a refused answer, 2 odd one")
    assert told.endswith("2 for other reasons.")
    assert reasons_told([]) == "Nothing."
