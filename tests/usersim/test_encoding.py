"""Mojibake is found and mended; everything that people type on purpose stays as it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.encoding import damage, mended, well_formed


@pytest.mark.parametrize("text", ["It won\u2019t break \u2014 she said", "naïve café", "Größe"])
def test_doubly_encoded_text_is_mended_to_what_it_was(text):
    broken = text.encode("utf-8").decode("cp1252")
    assert damage(broken) == "mojibake"
    assert mended(broken) == text
    assert damage(text) is None


def test_lost_characters_cannot_be_mended():
    assert damage("caf\ufffd") == "lost characters"
    assert damage(mended("caf\ufffd")) == "lost characters"


@given(st.text())
def test_half_a_character_is_marked_as_lost_and_nothing_else_changes(text):
    broken = text + "\ud83d"
    assert well_formed(text) == text
    assert well_formed(broken) == text + "\ufffd"
    assert well_formed(broken).encode("utf-8")
    assert damage(well_formed(broken)) == "lost characters"


@pytest.mark.parametrize(
    "text",
    ["\u201cquotes\u201d", "ﬁne", "&lt;b&gt; stays", "\uff37ide", "a\r\nb", "👍🏽", "ça"],
)
def test_style_is_not_touched(text):
    assert mended(text) == text


ORDINARY = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022\u2192\u2713日本語한국👍 ab.c1"


@given(st.text(alphabet=ORDINARY, max_size=60))
def test_the_short_way_past_ordinary_signs_hides_nothing(text):
    from ftfy.badness import is_bad

    assert not is_bad(text)


@given(st.text(max_size=100))
@settings(deadline=None)  # ftfy is loaded by the first text
def test_ascii_and_mended_text_stay(text):
    if text.isascii():
        assert mended(text) == text
    assert mended(mended(text)) == mended(text)
