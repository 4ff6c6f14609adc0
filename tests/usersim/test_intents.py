"""Intents written by an engine: kept as they come, asked for once, broken ones left out."""

import json

import pytest

from usersim.conversation import Conversation, Message
from usersim.engine import Completion
from usersim.engines.scripted import ScriptedEngine
from usersim.errors import DeterministicError, InputError
from usersim.intents import read_intents, write_intents


def people(number):
    return [
        Conversation(id=f"p{i}", messages=(Message("user", f"draw {i} <b>"),))
        for i in range(number)
    ]


class Writer(ScriptedEngine):
    """Writes an intent about each person; remembers whom it was asked about."""

    def __init__(self, answer=lambda turns: f"see a drawing\n of {turns}"):
        self.asked = []

        def script(messages, sampling):
            self.asked.append(messages[-1].content)
            return answer(messages[-1].content)

        super().__init__(script)


def test_everybody_is_asked_about_once_even_after_a_kill(tmp_path):
    path, writer = tmp_path / "intents.jsonl", Writer()
    first = write_intents(writer, people(3), path)
    assert first == {f"p{i}": f"see a drawing of draw {i} <b>" for i in range(3)}
    path.write_text(path.read_text() + '{"id": "p3", "int')  # the kill
    again = Writer()
    both = write_intents(again, people(5), path)
    assert sorted(again.asked) == ["draw 3 <b>", "draw 4 <b>"]
    assert both == read_intents(str(path))
    assert set(both) == {f"p{i}" for i in range(5)}
    assert write_intents(Writer(), people(5), path) == both


def test_an_intent_may_hold_any_kind_of_line_break(tmp_path):
    path = tmp_path / "i.jsonl"
    path.write_text('{"id": "p", "intent": "a\u2028b"}\n', encoding="utf-8")
    assert read_intents(str(path)) == {"p": "a\u2028b"}


@pytest.mark.parametrize("answer", ["", "word " * 41])
def test_an_answer_that_is_no_line_is_left_out(tmp_path, answer):
    assert write_intents(Writer(lambda _: answer), people(2), tmp_path / "i.jsonl") == {}


def test_a_writer_that_fails_costs_intents_and_not_the_training(tmp_path):
    def failing(turns):
        raise DeterministicError("too long", reason="context_full")

    assert write_intents(Writer(failing), people(2), tmp_path / "i.jsonl") == {}


def test_an_answer_cut_off_is_left_out(tmp_path):
    class Cut(Writer):
        async def complete(self, messages, sampling):
            return Completion("to see", "length")

    assert write_intents(Cut(), people(2), tmp_path / "i.jsonl") == {}


@pytest.mark.parametrize("line", ["{}", "[1]", '{"id": "a"}', 'not json\n{"id": "a"}'])
def test_a_broken_file_of_intents_is_refused(tmp_path, line):
    path = tmp_path / "intents.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match="wanted lines of"):
        read_intents(str(path))
    with pytest.raises(InputError, match="wanted lines of"):
        read_intents(str(tmp_path / "nowhere"))
    assert read_intents("") == {}


def test_a_last_line_without_its_end_counts_when_it_is_whole(tmp_path):
    path = tmp_path / "intents.jsonl"
    path.write_text(json.dumps({"id": "a", "intent": "b"}))
    assert read_intents(str(path)) == {"a": "b"}
    write_intents(Writer(), people(1), path)
    assert read_intents(str(path)) == {"a": "b", "p0": "see a drawing of draw 0 <b>"}
