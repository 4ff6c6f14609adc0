"""Guards: they refuse what they are for, and let people talk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.conversation import Message
from usersim.guards import is_foreign, loop_among, refuse_turn
from usersim.phrases import is_farewell, is_refusal

QUESTION = Message("user", "what is the tallest mountain in the whole of south america please")
ANSWER = Message("assistant", "The tallest mountain in South America is Aconcagua in Argentina.")
TALK = (QUESTION, ANSWER)


def refused(text, role="user", finish="stop", before=TALK):
    return refuse_turn(text, role, finish, before)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("   \n", "empty"),
        ("ok<|im_end|>", "template_tokens"),
        ("fine <start_of_turn>model", "template_tokens"),
        ("and then\n### Assistant: yes", "template_tokens"),
        ("Assistant: it is 6961 m", "template_tokens"),
        ("<think>The user wants a list.</think> how high is it", "reasoning_leak"),
        ("As an AI language model, I do not climb", "role_confusion"),
        ("Sure! Here's a list of mountains", "role_confusion"),
        ("I'm sorry, but I cannot answer that", "role_confusion"),
        ("How can I assist you today?", "role_confusion"),
        ("it " * 40, "looping"),
        (QUESTION.content.upper() + "?", "parroting"),
        (ANSWER.content, "parroting"),
        (ANSWER.content + " Really?", "parroting"),
    ],
)
def test_refuses_what_no_person_would_say(text, reason):
    assert refused(text) == reason


SPANISH = "pero no entiendo bien por qué la montaña más alta de América está en la Argentina"


def test_a_user_goes_on_in_a_language_that_somebody_has_used():
    german = (
        "ich verstehe das nicht, kannst du mir bitte alles noch einmal auf Deutsch erklären, ja?"
    )
    assert is_foreign(SPANISH, TALK)
    assert is_foreign(german, TALK)
    assert not is_foreign(
        "then why is it higher than all the others in this region of the world?", TALK
    )
    assert not is_foreign(SPANISH, (QUESTION, Message("assistant", "Claro. " + SPANISH)))
    assert not is_foreign("¿por qué?", TALK)  # too short to be told
    assert not is_foreign(SPANISH, ())  # an opener says which language it is
    assert not is_foreign(SPANISH, (Message("user", "1 + 1"), ANSWER))  # nobody knows of theirs


def test_a_refusal_in_the_same_words_is_no_parroting():
    """Else the commonest loop of refusals would be taken for one of repetition."""
    no = "I'm sorry, but I can't help with that."
    before = (
        *TALK[:1],
        Message("assistant", no),
        Message("user", "why not, it is only a mountain"),
    )
    assert refused(no, role="assistant", before=before) is None
    assert refused(ANSWER.content, role="assistant", before=TALK) == "parroting"


@pytest.mark.parametrize(
    "text",
    [
        "sure",
        "Sure, and how high is it",
        "i'm sorry i meant north america",
        "thanks!",
        "continue",
        "what is an AI language model",
        "can you explain how the <head> and </s> tags differ",
        "write an apology letter to my landlord: I apologize for the noise",
        "no no no no",
        "you said Aconcagua is in Argentina, is part of the mountain in Chile too?",
        "as an aid worker I travel a lot, which of these is safe",
        "user: admin, password forgotten, what do i do",
    ],
)
def test_lets_people_talk(text):
    assert refused(text) is None


def test_assistants_may_talk_like_assistants_and_run_long():
    assert refused("Sure! Here's a list of mountains", "assistant") is None
    assert refused("a long answer that was", "assistant", "length") is None
    assert refused("a long question that was", "user", "length") == "cut_off"


def test_short_words_may_be_said_again():
    said = (Message("user", "go on please"), Message("assistant", "And then he left."))
    assert refused("Go on, please!", before=said) is None


@given(st.text(max_size=300))
def test_judges_any_text(text):
    assert refused(text) in {
        None, "empty", "template_tokens", "role_confusion", "looping", "parroting",
    }  # fmt: skip


COLOURS = ["red", "blue", "green", "grey", "pink", "gold"]


@given(st.lists(st.sampled_from(COLOURS), min_size=5, max_size=60))
def test_whoever_repeats_an_earlier_turn_is_a_parrot_or_loops(words):
    text = " ".join(words)
    before = (Message("user", text), ANSWER)
    assert refused(text, before=before) in {"parroting", "looping"}


def test_refusals_are_told_from_answers():
    assert is_refusal("I'm sorry, but as an AI language model I cannot do that.")
    assert is_refusal("I cannot help with that.")
    assert not is_refusal("I'm sorry to hear that. Have you tried turning it off?")
    assert not is_refusal("You can't assist a goal keeper in football.")


def test_goodbyes_are_short():
    assert is_farewell("Thanks, bye!")
    assert not is_farewell("Thanks! " + "and another thing that I wanted to ask you about " * 3)
    assert not is_farewell("What does 'code' mean?")


def test_no_loop_among_ordinary_turns():
    assert loop_among((), 2) is None
    assert loop_among(TALK * 1, 2) is None
    assert loop_among((QUESTION, ANSWER, Message("user", "thanks"), ANSWER), 2) is None
