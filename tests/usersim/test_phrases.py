"""The wordings are one set: what guards refuse while a turn is made, filters find afterwards."""

import codecs

import pytest

from usersim import phrases


def test_the_slur_list_finds_plurals_and_ignores_ordinary_words():
    word = codecs.decode("xvxrf", "rot13")
    assert phrases.is_slur(word)
    assert phrases.is_slur(word[:-1])
    assert not any(map(phrases.is_slur, ["spice", "niggle", "snigger", "class", "chink", ""]))


@pytest.mark.parametrize(
    "end", [*".!?:;)}", "'", "\u3002", "\U0001f44d", "\n- one more", "\n2. two"]
)
def test_a_whole_ending_is_told_from_one_that_breaks_off(end):
    assert phrases.ends_whole(f"It ends{end}  \n")
    assert not phrases.ends_whole(f"It ends{end}\n in the\n")


def test_what_ends_in_blanks_alone_is_not_whole():
    assert not phrases.ends_whole("It ends." + " " * 500)


@pytest.mark.parametrize(
    "text",
    [
        "as an AI language model, I do not climb",
        "Fine. As an AI, I cannot climb",
        "Sure! Here's a list of mountains",
        "You're welcome! Enjoy the hills.",
    ],
)
def test_the_assistants_voice_is_told(text):
    assert phrases.assistant_voice(text)


def test_an_opener_may_close_as_letters_do():
    letter = "improve my letter: we met in May. Let me know if you need anything else"
    assert phrases.assistant_voice(letter, at_start=True) is None
    assert phrases.assistant_voice(letter)


@pytest.mark.parametrize(
    "end",
    [
        "Is there anything else I can do?", "How can I assist you now?", "How else may I help you?",
        "Let me know if you have any more", "let me know if you need anything", "I hope that helps",
        "Feel free to reach out",
    ],
)  # fmt: skip
def test_every_closing_offer_is_told(end):
    assert phrases.assistant_voice(f"Basil likes light. {end}")
