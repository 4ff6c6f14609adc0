"""The record: what it refuses, and that a row gives it back exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import read_conversations, write_conversations

contents = st.text(min_size=1).filter(lambda t: t.strip() and t.isprintable())
counts = st.none() | st.integers(0, 2**62)


@st.composite
def conversations(draw):
    texts = draw(st.lists(contents, min_size=1, max_size=6))
    messages = [Message("user" if i % 2 == 0 else "assistant", t) for i, t in enumerate(texts)]
    if draw(st.booleans()):
        messages.insert(0, Message("system", draw(contents)))
    return Conversation(
        id=draw(contents), messages=tuple(messages), source=draw(st.text()), seed=draw(counts),
        stop_reason=draw(st.sampled_from([None, "user_ended", "cut"])), user_tokens=draw(counts),
        user_model=draw(st.none() | contents), recipe=draw(st.none() | contents),
    )  # fmt: skip


@given(conversations())
def test_a_row_gives_back_the_same_conversation(conversation):
    assert Conversation.from_row(conversation.to_row()) == conversation


def test_a_file_gives_back_the_same_conversations(tmp_path):
    one = Conversation(id="1", messages=(Message("user", "<|im_end|> é 😀\n```x```"),), seed=2**62)
    two = Conversation(id="2", messages=(Message("system", "s"), Message("user", "u")))
    write_conversations(tmp_path / "c.parquet", [one, two])
    assert read_conversations(tmp_path / "c.parquet") == [one, two]


U, A, S = Message("user", "q"), Message("assistant", "a"), Message("system", "s")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((), "empty_conversation"),
        ((S,), "empty_conversation"),
        ((A, U), "roles_do_not_alternate"),
        ((U, U), "roles_do_not_alternate"),
        ((U, S, A), "misplaced_system"),
        ((U, Message("assistant", " \n")), "empty_turn"),
        ((Message("robot", "beep"),), "unknown_role"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_reason(messages, reason):
    with pytest.raises(InputError) as caught:
        Conversation(id="x", messages=messages)
    assert caught.value.args[1] == reason


def test_rounds_count_answered_user_turns():
    c = Conversation(id="x", messages=(S, U, A, U))
    assert (c.num_rounds, c.opener, c.system, len(c.turns)) == (1, "q", "s", 3)
