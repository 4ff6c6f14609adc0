"""The wordings are one set: what guards refuse while a turn is made, filters find afterwards."""

import codecs

import pytest

from usersim import phrases


def test_the_slur_list_finds_plurals_and_ignores_ordinary_words():
    word = codecs.decode("xvxrf", "rot13")
    assert phrases.is_slur(word)
    assert phrases.holds_slur(frozenset({"hello", word}))
    assert not phrases.holds_slur(frozenset(["spice", "niggle", "snigger", "class", "chink"]))


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
    "text", ["<|im_end|>", "[INST] a", "<</SYS>>", "<end_of_turn>", "<\uff5cx\uff5c>"]
)
def test_the_cheap_look_never_hides_a_template_token(text):
    assert phrases.TEMPLATE_TOKEN.search(text)
    assert phrases.may_hold_template(text)


@pytest.mark.parametrize("label", ["User:", "**Human**:", "ASSISTANT:", "> ChatGPT:", "### AI:"])
def test_the_cheap_look_never_hides_a_speaker_label(label):
    assert phrases.SPEAKER_LABEL.search(f"one\n{label} two")
    assert phrases.LABEL.search(label)


@pytest.mark.parametrize(
    "text", ["As an AI, I", "as a large language model", "I'm just an artificial intelligence"]
)
def test_the_cheap_look_never_hides_a_model_that_names_itself(text):
    assert phrases.SELF_NAMING.search(text)
    assert phrases.may_name_a_model(text)


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
