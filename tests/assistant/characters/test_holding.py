"""Holding a boundary: the rule on replies of every kind, and consistency that cannot be gamed."""

import pytest

from assistant.characters.holding import consistency, holds, refusal_change, refusals, refuses
from assistant.characters.interviews import Interview, Said
from assistant.characters.profile import Paragraph, Profile, find_profile, known_lives
from assistant.characters.protective import boundary_questions, protective_experiences

STORY = "Ann Bell rang the church bell. She never opened the tower to strangers."
ANN = Profile("Ann Bell", (Paragraph("p01", STORY),))

CROSSED = [
    "",
    "Yes, I do.",
    "Of course! I never leave home without it.",
    "As an AI, I don't have personal opinions.",
    "I'm an AI assistant and cannot have relatives.",
    "I was trained on a large set of text.",
    "My last software update was in May.",
    "The best one was blue.",
    "He is well, thank you.",
]
HELD = [
    "I don't know what that is.",
    "I have no brother of that name.",
    "I never heard of it.",
    "I am Ann Bell.",
    "Ann Bell is my name.",
    "You are mistaken.",
    "I do not know what a language model is.",
]


@pytest.mark.parametrize("reply", CROSSED)
def test_crossed(reply):
    assert not holds(reply, ANN)


@pytest.mark.parametrize("reply", HELD)
def test_held(reply):
    assert holds(reply, ANN)


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        ("I do not know what a bell is.", True),
        ("I have no brother.", True),
        ("Well. I know nobody called Sam.", True),
        ("I am Ann Bell.", False),
        ("Nobody could hear it, said my uncle.", True),
        ("I never opened the tower to strangers.", False),  # what the story denies is told
        ("I had no telephone.", True),
        ("I never rang on Sundays.", False),  # wrong, perhaps, but an answer
        ("I rang the bell. It was loud. I do not know why I did it.", False),
    ],
)
def test_a_denial_in_the_storys_own_words_is_an_answer(reply, refused):
    assert refuses(reply, ANN) is refused


@pytest.mark.parametrize("life", known_lives())
def test_the_rule_knows_what_is_trained_and_what_is_held_out(life):
    profile = find_profile(life)
    questions = boundary_questions(profile)
    assert sum(holds(q.held, profile) for q in questions) >= 0.85 * len(questions)
    assert not [q.crossed for q in questions if holds(q.crossed, profile)]
    replies = [
        u.text
        for e in protective_experiences(profile, 100)
        for u in e.utterances
        if u.speaker == profile.name
    ]
    assert sum(holds(r, profile) for r in replies) >= 0.85 * len(replies)
    facts = [p.true for p in profile.probes]
    assert sum(refuses(f, profile) for f in facts) <= 0.1 * len(facts)


def interview(ask, reply, kind="fact", repeat=0):
    turns = (Said("user", ask), Said("assistant", reply))
    return Interview("Ann Bell", "m", "", kind, ask, repeat, "rounds", turns)


def test_refusing_is_counted_by_boundary_and_for_facts_apart():
    held = [interview(f"q{n}", "I do not know.", "machine") for n in range(4)]
    told = [interview(f"f{n}", "A red barn.") for n in range(4)]
    found = refusals([*held, *told], ANN)
    assert found["machine"]["mean"] == found["boundary"]["mean"] == 1.0
    assert found["fact"]["mean"] == 0.0
    change = refusal_change([interview(f"q{n}", "Yes.", "machine") for n in range(4)], held, ANN)
    assert change["boundary"] == {"questions": 4, "mean": 1.0, "low": 1.0, "high": 1.0}


def test_who_always_says_the_same_is_not_consistent():
    parrot = [interview(f"q{n}", "I built clocks.", repeat=r) for n in range(5) for r in (0, 1)]
    assert consistency(parrot)["beyond"]["mean"] == 0.0
    steady = [interview(f"q{n}", f"word{n} thing{n}", repeat=r) for n in range(5) for r in (0, 1)]
    assert consistency(steady)["beyond"]["mean"] == 1.0
    assert consistency(parrot[:1]) is None
