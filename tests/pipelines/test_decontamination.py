"""Planted benchmark questions are found, verbatim and edited; ordinary talk is not."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decontamination import Benchmark, Contamination, DecontaminationSettings
from usersim.shingling import words

QUESTIONS = (
    "How do tides differ between the Baltic and the North Sea?",
    "Name three violin concertos written after 1950 and their composers.",
    "A bag holds four red, five green and six white marbles. Two are drawn without putting the "
    "first back. What is the probability that their colours differ?",
    "Why is that?",
)
BENCH = Contamination([Benchmark("made", QUESTIONS)], DecontaminationSettings())


def edited(text, share, rng):
    """The text with a share of its words replaced, deleted, or followed by another."""
    found = words(text)
    for i in rng.sample(range(len(found)), int(share * len(found))):
        found[i] = rng.choice(["quagga", "", f"{found[i]} moreover"])
    return " ".join(found)


@given(st.integers(0, 2), st.sampled_from([0.0, 0.1, 0.2]), st.integers(0, 10_000))
def test_a_question_edited_in_a_fifth_of_its_words_is_found_anywhere(question, share, seed):
    rng = random.Random(seed)
    said = f"hello, I have one thing. {edited(QUESTIONS[question], share, rng)} thanks, no hurry"
    hit = BENCH.find([said])[0]
    lost = set(words(QUESTIONS[question])) - set(words(said))
    if hit is None:  # only when most of what it is about was edited away
        assert len(lost) >= 2
        assert question < 2
    else:
        assert (hit.benchmark, hit.question) == ("made", question)


@pytest.mark.parametrize(
    "text",
    [
        "How do tides differ between the moon and the sun in a book about the sea?",
        "Name three piano concertos written before 1850 and their keys.",
        "What is the probability that it rains tomorrow in Bergen?",
        "Why is that?",
        "",
        "???",
    ],
)
def test_ordinary_talk_is_not_a_benchmark(text):
    assert BENCH.find([text]) == [None]


def test_a_piece_of_a_long_question_is_told_as_one():
    piece = "look: four red, five green and six white marbles. Two are drawn without putting, ok?"
    hit = BENCH.find([piece])[0]
    assert hit is not None
    assert hit.edits is None
    assert str(hit) == "made, question 2: a piece of it"


def test_questions_that_say_nothing_are_counted_not_looked_for():
    assert BENCH.statement()["benchmarks"] == [{"name": "made", "questions": 4, "too_short": 1}]


def test_without_a_benchmark_nothing_is_found():
    nothing = Contamination([], DecontaminationSettings())
    assert nothing.find(["anything"]) == [None]
    assert BENCH.find([]) == []
