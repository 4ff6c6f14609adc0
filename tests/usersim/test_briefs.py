"""Briefs: files of them are checked line by line, and real people make them too."""

import json

import pytest

from usersim.briefs import Brief, briefs_of_people, read_briefs
from usersim.conditions import profile_of
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import write_conversations, write_table
from usersim.intents import keep_told, told_intents


def write_lines(path, *rows):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_a_brief_may_state_anything_or_nothing(tmp_path):
    path = write_lines(
        tmp_path / "b.jsonl",
        {"opener": "hi", "persona_id": "p1"},
        {},
        "",
        {"intent": "x", "profile": None},
    )
    assert read_briefs(path) == (Brief(opener="hi", persona_id="p1"), Brief(), Brief(intent="x"))


def test_parquet_holds_briefs_as_well(tmp_path):
    import pyarrow as pa

    write_table(tmp_path / "b.parquet", pa.table({"intent": ["x", None]}))
    assert read_briefs(tmp_path / "b.parquet") == (Brief(intent="x"), Brief())


def test_blanks_say_nothing_and_a_text_may_hold_any_kind_of_line_break(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + '{"opener": "  \\t"}\r\n{"opener": "a\u2028b\x85c"}\n'.encode()
    )
    assert read_briefs(path) == (Brief(), Brief(opener="a\u2028b\x85c"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"opner": "hi"}', "line 2: unknown key 'opner'; a brief has opener"),
        ('{"opener": 3}', "line 2: opener must be text, not int"),
        (r'{"opener": "hi \ud83d"}', "line 2: opener holds half of a character"),
        ('["hi"]', "line 2: a brief is an object"),
        ('{"opener": ', "line 2 is not JSON"),
    ],
)
def test_a_broken_brief_is_named_by_its_line(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        read_briefs(write_lines(tmp_path / "b.jsonl", {"opener": "hi"}, line))


def test_no_file_and_no_brief(tmp_path):
    with pytest.raises(InputError, match="no file of briefs"):
        read_briefs(tmp_path / "b.jsonl")
    with pytest.raises(InputError, match="holds no brief"):
        read_briefs(write_lines(tmp_path / "b.jsonl", ""))
    (tmp_path / "l.jsonl").write_bytes(b'{"opener": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_briefs(tmp_path / "l.jsonl")


def people(tmp_path):
    texts = [("fix my car pls", "and now?"), ("Write a poem about rain.", "Another one.")]
    conversations = [
        Conversation(
            id=f"p{i}",
            messages=(Message("user", a), Message("assistant", "Yes."), Message("user", b)),
        )
        for i, (a, b) in enumerate(texts)
    ]
    write_conversations(tmp_path / "train.parquet", conversations)
    return {c.id: c for c in conversations}


def test_real_people_lend_what_is_asked_for(tmp_path):
    known, path = people(tmp_path), tmp_path / "train.parquet"
    for brief in briefs_of_people(path, ("intent", "profile"), 3, seed=1):
        person = known[brief.intent_id]
        assert brief.profile == profile_of(person.user_turns).line()
        typed = " ".join(person.user_turns).lower()
        assert all(word in typed for word in brief.intent.split(", "))
    assert {b.intent for b in briefs_of_people(path, ("profile",), 3, seed=1)} == {""}


def test_real_people_who_are_not_there(tmp_path):
    with pytest.raises(InputError, match="run `realchat ingest`, or name a file"):
        briefs_of_people(tmp_path / "none.parquet", ("intent",), 3, seed=1)


def test_who_is_played_wants_what_training_was_told_they_want(tmp_path):
    known = people(tmp_path)
    told = next(iter(known))
    keep_told(tmp_path, {told: "a line of somebody's own"})
    found = {
        b.intent_id: b.intent
        for b in briefs_of_people(tmp_path / "train.parquet", ("intent",), 2, 3)
    }
    assert found[told] == "a line of somebody's own"
    assert all(intent.count(", ") < 2 for name, intent in found.items() if name != told)
    keep_told(tmp_path, {})
    assert told_intents(tmp_path) == {}
