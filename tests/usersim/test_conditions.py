"""Conditions: a profile is read off turns without their words, an intent is one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.chat_format import FREE_SYSTEM
from usersim.conditions import (
    ConditionSettings,
    IntentWords,
    Profile,
    Teller,
    length_class,
    profile_of,
    user_system,
)
from usersim.conversation import Conversation, Message

TURNS = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6)


def person(id, *texts):
    messages = []
    for text in texts:
        messages += [Message("user", text), Message("assistant", "I see.")]
    return Conversation(id=id, messages=tuple(messages))


def test_a_profile_says_how_and_not_what():
    terse = profile_of(["fix my code pls", "still broken", "and now?"])
    assert terse.opens_with == "a few words"
    assert (terse.case, terse.ends, terse.asks, terse.tone) == (
        "lower case",
        "are left open",
        "sometimes",
        "polite",
    )
    neat = profile_of(["Write a poem about autumn. It should rhyme, and be of four lines at most."])
    assert (neat.opens_with, neat.goes_on_with) == ("a line or two", "")
    assert (neat.case, neat.ends, neat.asks, neat.tone) == (
        "upper case",
        "are marked",
        "never",
        "plain",
    )


@given(TURNS)
def test_a_profile_is_one_line_and_can_be_read_back(turns):
    profile = profile_of(turns)
    assert "\n" not in profile.line()
    assert Profile.from_line(profile.line()) == profile


@given(TURNS)
def test_whoever_has_a_profile_complies_with_it(turns):
    agreement = profile_of(turns).agreement(profile_of(turns))
    assert agreement
    assert all(agreement.values())


def test_a_profile_written_by_hand_binds_in_what_it_says_only():
    asked = Profile(opens_with="a few words", tone="polite")
    got = profile_of(["tell me everything that there is to know about the sea", "thanks"])
    assert asked.agreement(got) == {"opens_with": False, "tone": True}


def test_nobody_has_no_profile():
    with pytest.raises(ValueError, match="at least one turn"):
        profile_of([])


@pytest.mark.parametrize(
    ("words", "expected"), [(0, "a few words"), (4, "a few words"), (5, "a short line"),
                            (30, "a line or two"), (31, "a paragraph"), (81, "a long text")]
)  # fmt: skip
def test_length_classes(words, expected):
    assert length_class(words) == expected


def test_an_intent_is_made_of_what_sets_a_person_apart():
    people = [["can you help me with chess openings", "which chess book?"]]
    people += [["can you help me with cooking"], ["can you help me with cooking rice"]]
    people += [["can you play chess"]]
    words = IntentWords(people)
    assert words.of(people[0], 1) == "chess"
    assert words.of(["can you help me with cooking"], 2) == "help, cooking"
    assert words.of(["123 !!"], 3) == ""


@pytest.mark.parametrize("run", ["a" * 2000, "我想学做饭和种花" * 30, "gattaca" * 5])
def test_a_run_of_letters_that_is_no_word_is_no_intent(run):
    turns = [f"what is {run} about", "chess"]
    assert IntentWords([turns]).of(turns, 6) == "what, about, chess"


@given(TURNS, st.integers(1, 8))
def test_an_intent_has_at_most_so_many_words_and_all_were_typed(turns, number):
    intent = IntentWords([turns]).of(turns, number)
    words = intent.split(", ") if intent else []
    assert len(words) <= number
    assert all(word in " ".join(turns).lower() for word in words)


def test_what_a_user_is_told():
    assert user_system() == FREE_SYSTEM
    both = user_system("plan a\ntrip ", "tone polite")
    assert both.splitlines() == [
        FREE_SYSTEM,
        "You want: plan a trip",
        "How you write: tone polite",
    ]


def test_training_drops_conditions_at_random_but_the_same_way_for_a_seed():
    people = [person(f"p{i}", f"topic{i} topic{i} please", "go on") for i in range(400)]
    settings = ConditionSettings(profile_share=0.5, intent_share=0.25)
    told = [Teller(settings, people, seed=1).at_random(p) for p in people]
    assert told == [Teller(settings, people[::-1], seed=1).at_random(p) for p in people]
    assert told != [Teller(settings, people, seed=2).at_random(p) for p in people]
    assert sum("How you write" in t for t in told) == pytest.approx(200, abs=40)
    assert sum("You want" in t for t in told) == pytest.approx(100, abs=35)
    assert sum(t == FREE_SYSTEM for t in told) == pytest.approx(150, abs=40)


def test_a_written_intent_comes_before_the_words_of_the_turns():
    people = [person("a", "chess chess"), person("b", "rice rice")]
    teller = Teller(ConditionSettings(intent_share=1.0), people, 0, {"a": "learn the rules"})
    assert "You want: learn the rules" in teller.told(people[0], intent=True, profile=False)
    assert "You want: rice" in teller.told(people[1], intent=True, profile=False)
