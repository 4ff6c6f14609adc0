"""What is typed into the search field is text: no operator of the index gets through."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dashboard.search import fts_query, marked

TEXTS = ["the landlord sent a letter about rent", "late rent again", "python rents nothing"]


def found(query: str, side: str = "") -> list[int]:
    """Numbers of the texts that match."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE words USING fts5(user, assistant)")
    db.executemany("INSERT INTO words VALUES (?, 'i see')", [(text,) for text in TEXTS])
    asked = fts_query(query, side)
    rows = db.execute("SELECT rowid - 1 FROM words WHERE words MATCH ?", (asked,))
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("rent", [0, 1]),
        ("rent*", [0, 1, 2]),
        ("letter rent", [0]),
        ('"late rent"', [1]),
        ("rent -letter", [1]),
        ("RENT", [0, 1]),
        ("rent AND", []),
        ("user:rent", []),
        ("i see", [0, 1, 2]),
    ],
)
def test_words_phrases_beginnings_and_absence(query, numbers):
    assert found(query) == numbers


def test_one_side_only():
    assert (found("see", "user"), found("see", "assistant")) == ([], [0, 1, 2])


@given(st.text(max_size=40))
def test_any_text_is_a_query_or_none(text):
    asked = fts_query(text)
    if asked is not None and "\x00" not in text:
        found(text)


@pytest.mark.parametrize("query", ["", "?!", "-only", "日本語の手紙"])
def test_what_the_index_cannot_answer_is_left_to_a_scan(query):
    assert fts_query(query) is None


@given(st.text(max_size=60), st.text(max_size=20))
def test_marking_loses_no_character(text, query):
    assert "".join(piece for piece, _ in marked(text, query)) == text


def test_whole_words_are_marked():
    pieces = list(marked("Rent, rental, RENT.", "rent"))
    assert [piece for piece, hit in pieces if hit] == ["Rent", "RENT"]
