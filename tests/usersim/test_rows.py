"""Training rows: the mask covers exactly what the labelled side wrote, once, within budget."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.rows import IGNORED, ViewSettings, conversation_rows

VIEW = ViewSettings(window=200, target_limit=60, context_limit=40)

texts = st.text(min_size=1, max_size=80).map(str.strip).filter(bool) | st.sampled_from(
    ["<|im_end|>", "user\nassistant", "<|im_start|>user", "User: hi", "é “quoted” 😀", "x" * 300]
)
turn_lists = st.lists(texts, min_size=1, max_size=12)


def conversation(texts, stop_reason="user_ended"):
    roles = ["user", "assistant"]
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    return Conversation(id="c", messages=messages, stop_reason=stop_reason)


def labelled(row):
    return [[*row.input_ids[t.start : t.stop]] for t in row.targets]


@given(turn_lists, st.sampled_from(["user", "assistant"]))
@settings(max_examples=200, deadline=None)
def test_labels_are_exactly_the_turns_of_the_labelled_side(chatml, texts, target):
    c = conversation(texts)
    rows = conversation_rows(c, chatml, target, VIEW)
    spans = {t.turn: ids for row in rows for t, ids in zip(row.targets, labelled(row), strict=True)}
    for index, message in enumerate(c.turns):
        if message.role != target:
            assert index not in spans
            continue
        ids = chatml.text_ids(message.content)
        whole = len(ids) <= VIEW.target_limit
        expected = [*ids, chatml.end_of_turn_id] if whole else [*ids[: VIEW.target_limit]]
        assert spans[index] == expected


@given(turn_lists)
@settings(max_examples=100, deadline=None)
def test_every_target_stands_once_and_sees_the_turn_it_reacts_to(chatml, texts):
    c = conversation(texts)
    rows = conversation_rows(c, chatml, "user", VIEW)
    turns = [t.turn for row in rows for t in row.targets]
    ends = 1 if len(texts) % 2 == 0 else 0
    assert turns == [*range(0, len(texts) + ends, 2)]
    header = list(chatml.header_ids("assistant"))
    for row in rows:
        for t in row.targets:
            if t.turn > 0:
                before = row.input_ids[: t.start]
                assert any(before[i : i + len(header)] == header for i in range(len(before)))


@given(turn_lists, st.sampled_from(["user", "assistant"]))
@settings(max_examples=100, deadline=None)
def test_no_row_is_over_budget_or_without_target_and_labels_match_ids(chatml, texts, target):
    for row in conversation_rows(conversation(texts), chatml, target, VIEW):
        assert len(row.input_ids) == len(row.labels) <= VIEW.window
        assert row.num_targets == sum(label != IGNORED for label in row.labels) > 0
        assert all(b in (IGNORED, a) for a, b in zip(row.input_ids, row.labels, strict=True))


@given(turn_lists)
@settings(max_examples=60, deadline=None)
def test_the_two_sides_never_label_the_same_token(chatml, texts):
    view = ViewSettings(window=4000, target_limit=400, context_limit=400)
    c = conversation(texts, stop_reason="cut")
    user = conversation_rows(c, chatml, "user", view)[0]
    answers = conversation_rows(c, chatml, "assistant", view)
    if answers:
        assert user.input_ids == answers[0].input_ids
        both = zip(user.labels, answers[0].labels, strict=True)
        assert all(IGNORED in pair for pair in both)


@pytest.mark.parametrize(("reason", "expected"), [("user_ended", 1), ("cut", 0), ("max_rounds", 0)])
def test_only_a_conversation_that_really_ended_teaches_the_end(chatml, reason, expected):
    rows = conversation_rows(conversation(["hi", "hello"], reason), chatml, "user", VIEW)
    ends = [
        ids for row in rows for t, ids in zip(row.targets, labelled(row), strict=True) if t.is_end
    ]
    assert ends == [[chatml.end_of_conversation_id]] * expected


def test_a_conversation_without_a_target_makes_no_row(chatml):
    assert conversation_rows(conversation(["only a question"]), chatml, "assistant", VIEW) == []


def test_a_window_too_small_for_its_limits_is_refused(chatml):
    view = ViewSettings(window=64, target_limit=60, context_limit=40)
    with pytest.raises(InputError, match="too small"):
        conversation_rows(conversation(["hi"]), chatml, "user", view)
    tight = chatml.playing("user", "You are a person who asks an assistant about anything. " * 9)
    for told in ("", "You want: a boat. " * 99):
        with pytest.raises(InputError, match="too small"):
            conversation_rows(conversation(["hi"]), tight, "user", VIEW, told)


@given(turn_lists, st.sampled_from(["x" * 2000, "你好" * 900, "You want: a boat", "a b " * 999]))
@settings(max_examples=60, deadline=None)
def test_whatever_a_user_is_told_their_turns_have_room(chatml, texts, condition):
    c, told = conversation(texts), f"You are a person.\n{condition}\nHow you write: tone polite"
    free = conversation_rows(c, chatml.playing("user", "You are a person."), "user", VIEW)
    rows = conversation_rows(c, chatml, "user", VIEW, told)
    assert all(len(row.input_ids) <= VIEW.window for row in rows)
    assert [i for row in rows for i in labelled(row)] == [i for row in free for i in labelled(row)]
    shown = chatml.tokenizer.decode(rows[0].input_ids)
    assert "You are a person." in shown
    assert "tone polite" in shown


@given(
    st.lists(
        st.sampled_from(["short", "a longer turn of words", "x" * 300]), min_size=4, max_size=4
    )
)
@settings(max_examples=30, deadline=None)
def test_a_turn_that_the_token_limit_broke_off_teaches_no_end(chatml, texts):
    whole = conversation(texts)
    cut = replace(whole, cut_turns=(1,))
    first, second = (
        {t.turn: row.input_ids[t.start : t.stop] for row in rows for t in row.targets}
        for rows in (conversation_rows(c, chatml, "assistant", VIEW) for c in (whole, cut))
    )
    end = chatml.end_of_turn_id
    assert end not in second[1]
    assert [i for i in first[1] if i != end] == second[1]
    assert first[3] == second[3]


def test_the_user_is_told_their_conditions_and_never_what_the_assistant_was_told(chatml):
    conversation = Conversation(
        id="c",
        messages=(
            Message("system", "Answer like a pirate."),
            Message("user", "hi"),
            Message("assistant", "Arr."),
        ),
    )
    view = ViewSettings(window=1024, target_limit=200, context_limit=100)
    user = chatml.playing("user", "You are a person.")
    free = chatml.tokenizer.decode(conversation_rows(conversation, user, "user", view)[0].input_ids)
    told = conversation_rows(conversation, user, "user", view, "You want: a boat. " * 8)[0]
    assert "You are a person." in free
    assert "pirate" not in free
    assert chatml.tokenizer.decode(told.input_ids).count("You want: a boat.") == 8
    other = conversation_rows(conversation, chatml, "assistant", view)[0]
    assert "pirate" in chatml.tokenizer.decode(other.input_ids)
