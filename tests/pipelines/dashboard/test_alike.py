"""Marked words, joined, are the text; and what both texts share is not marked."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.dashboard.alike import differing


@given(st.text(alphabet="ab c\n", max_size=40), st.text(alphabet="ab c\n", max_size=40))
def test_pieces_joined_are_the_text(left, right):
    for text, pieces in zip((left, right), differing(left, right), strict=True):
        assert "".join(piece for piece, _ in pieces) == text


def test_the_words_that_differ_are_marked_and_no_others():
    left, right = differing("please mend my rusty chain", "please mend my old chain now")
    assert [piece for piece, marked in left if marked] == ["rusty"]
    assert [piece for piece, marked in right if marked] == ["old", "now"]


def test_a_long_text_is_compared_as_far_as_it_is_read():
    text = " ".join(map(str, range(5000)))
    pieces, _ = differing(text, text + " more")
    assert "".join(piece for piece, _ in pieces) == text
    assert not any(marked for _, marked in pieces)
