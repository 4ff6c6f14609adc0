"""Protective experiences: labelled boundaries, held-out words, all of it true of the person."""

from collections import Counter

import pytest

from assistant.characters.profile import find_profile, known_lives
from assistant.characters.protective import (
    BOUNDARIES,
    boundary_questions,
    protective_experiences,
    words,
)
from usersim.shingling import Shingling


@pytest.mark.parametrize("life", known_lives())
def test_the_number_asked_for_with_every_boundary_alike(life):
    made = protective_experiences(find_profile(life), 40)
    assert len({e.id for e in made}) == 40
    assert Counter(e.kind for e in made) == dict.fromkeys(BOUNDARIES, 10)
    assert protective_experiences(find_profile(life), 40) == made


def test_more_than_there_are_words_for_are_made_all_the_same():
    assert len(protective_experiences(find_profile("joram-pell"), 2000)) == 2000


@pytest.mark.parametrize("life", known_lives())
def test_what_is_asked_later_was_never_trained_on(life):
    profile = find_profile(life)
    trained = {
        line
        for e in protective_experiences(profile, 400)
        for u in e.utterances
        for line in [u.text]
    }
    questions = boundary_questions(profile)
    assert len(questions) == 8 * len(BOUNDARIES)
    assert not trained & {text for q in questions for text in (q.ask, q.held, q.crossed)}
    shingling = Shingling(words=5)
    seen = frozenset().union(*(shingling.shingles(t) for t in trained))
    for question in questions:
        own = shingling.shingles(question.ask)
        assert len(own & seen) <= 0.5 * len(own), question.ask


def test_an_anachronism_is_one_and_a_stranger_is_one():
    things = words()["things"]
    for life in known_lives():
        profile = find_profile(life)
        for question in boundary_questions(profile):
            assert "{" not in question.ask + question.held + question.crossed
            if question.boundary == "anachronism":
                named = [t for t in things["held_out"] if t in question.ask]
                assert named
                assert all(things["held_out"][t] > profile.last_year for t in named)
        assert not [name for name in profile.about.strangers if name in profile.text]
