"""The screen never hides what Python's own `re` finds."""

import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipelines.first_look import SIGNS
from pipelines.screen import Screen, loosened
from usersim import phrases

SCREEN = Screen(SIGNS)
PATTERNS = [(name, pattern) for name, group in SIGNS.items() for pattern in group]
PATTERNS.append(("transcript", phrases.SPEAKER_LABEL))


@pytest.mark.parametrize(
    ("name", "pattern"), PATTERNS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(PATTERNS)]
)
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_pattern_finds_is_named(name, pattern, data):
    text = data.draw(st.from_regex(pattern)) + data.draw(st.text(max_size=5))
    assume(pattern.search(text) or pattern.search(text[:200]) or pattern.search(text[-200:]))
    assert name in SCREEN.may_hold(text)


def test_nothing_is_named_in_ordinary_talk():
    assert SCREEN.may_hold("whats a good way to keep basil alive \u2014 indoors\u2026") == set()
    assert SCREEN.may_hold("User: hi") == {"transcript"}


@pytest.mark.parametrize("text", ["a\ud83d", "\u212aiss", "\u0131"])
def test_what_hyperscan_cannot_read_as_python_does_may_hold_everything(text):
    assert SCREEN.may_hold(text) == set(SIGNS)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\bé\w\d\s", "éß\u0663\u3000"),
        (r"a\s", "a\x1c"),
        (r"[^\W\d]{0,3}[\s.]x", "\u00a0x"),
        (r"\[[\w-]+\](?! no)", "[é-]"),
        ("\\u4f60{2}", "\u4f60\u4f60"),
    ],
)
def test_beyond_ascii_every_character_may_be_of_every_kind(pattern, text):
    screen = Screen({"it": (re.compile(pattern),)})
    assert re.search(pattern, text)
    assert screen.may_hold(text) == {"it"}
    assert screen.may_hold("other") == set()


def test_a_loosened_pattern_has_no_edges_and_no_long_repeats():
    assert loosened(r"\bas [^\n]{0,80}\d{4}[\b.]") == (r"as [^\n]*[\d\x{80}-\x{10ffff}]{4}[\b.]")
