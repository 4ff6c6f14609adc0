"""Structured answers: only exactly what was asked for is read; the rest has a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.characters.judging import Verdict
from assistant.characters.structured import Refused, read_answer, schema_of
from usersim.engine import Completion

GOOD = {"reason": "It names the ship.", "score": 6}
MALFORMED = {
    "6": "wrong_fields",
    "": "not_json",
    "Score: 7": "not_json",
    "I would say 5 because of the 3 errors. 2": "not_json",
    '{"reason": "x", "score": 8}': "out_of_range",
    '{"reason": "x", "score": 0}': "out_of_range",
    '{"reason": "x", "score": "7"}': "out_of_range",
    '{"reason": "x", "score": 6.5}': "out_of_range",
    '{"reason": "", "score": 6}': "out_of_range",
    '{"reason": "x"}': "wrong_fields",
    '{"score": 6}': "wrong_fields",
    '{"reason": "x", "score": 6, "more": 1}': "wrong_fields",
    '{"reason": 3, "score": 6}': "wrong_fields",
    '[{"reason": "x", "score": 6}]': "wrong_fields",
    '{"reason": "x", "score": 6} and more': "not_json",
    "null": "wrong_fields",
}


def test_what_fits_is_read():
    assert read_answer(Completion(json.dumps(GOOD), "stop"), Verdict) == Verdict(**GOOD)
    assert json.loads(schema_of(Verdict))["properties"]["score"]["enum"] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("text", "reason"), MALFORMED.items())
def test_what_does_not_fit_is_refused_with_its_reason(text, reason):
    """DC8: no digit is ever picked out of prose."""
    found = read_answer(Completion(text, "stop"), Verdict)
    assert isinstance(found, Refused)
    assert found.reason == reason


def test_an_answer_that_was_cut_says_so():
    found = read_answer(Completion('{"reason": "It na', "length"), Verdict)
    assert isinstance(found, Refused)
    assert found.reason == "cut_off"


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_nothing_breaks_the_reader(text):
    found = read_answer(Completion(text, "stop"), Verdict)
    assert isinstance(found, Refused)


@given(st.text(min_size=1, max_size=120), st.integers(1, 7))
def test_every_verdict_survives_its_json(reason, score):
    wanted = Verdict(reason=reason, score=score)
    assert read_answer(Completion(wanted.model_dump_json(), "stop"), Verdict) == wanted
