"""The notebook: an answer once given is not asked for again, an overloaded engine is."""

import asyncio

import pytest

from assistant.characters.notebook import TRIES, Notebook
from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines.scripted import answers, overloaded, refusing, repeating
from usersim.errors import DeterministicError, InputError, TransientError

HELLO = [Message("user", "Hello?")]


def asked(folder, engine, places, owner="plan"):
    async def run():
        with Notebook(folder / "n.sqlite", {"plan": owner}, pause_s=0.0) as book:
            said = [(await book.ask(p, engine, HELLO, Sampling(max_tokens=3))).text for p in places]
            return said, book.asked, book.remembered

    return asyncio.run(run())


def test_what_is_known_is_not_asked_again(tmp_path):
    assert asked(tmp_path, answers(["one", "two"]), [(0, 1), (0, 3)]) == (["one", "two"], 2, 0)
    engine = answers(["three"])
    found = asked(tmp_path, engine, [(0, 1), (0, 3), (1, 1)])
    assert found == (["one", "two", "three"], 1, 2)
    assert engine.calls == 1


def test_how_an_answer_ended_is_kept(tmp_path):
    long = repeating("one two three four five")

    async def finish():
        with Notebook(tmp_path / "n.sqlite", {}) as book:
            return (await book.ask((0, 1), long, HELLO, Sampling(max_tokens=3))).finish_reason

    assert [asyncio.run(finish()), asyncio.run(finish())] == ["length", "length"]
    assert long.calls == 1


def test_an_overloaded_engine_is_asked_again_within_bounds(tmp_path):
    """DC3: the retry counter counts retries."""
    said, tries, _ = asked(tmp_path, overloaded(repeating("yes"), TRIES - 1), [(0, 1)])
    assert (said, tries) == (["yes"], TRIES)
    with pytest.raises(TransientError):
        asked(tmp_path, overloaded(repeating("yes")), [(1, 1)])


def test_a_refusal_is_remembered_and_not_asked_again(tmp_path):
    engine = refusing(repeating("yes"), "context_full")
    for _ in range(2):
        with pytest.raises(DeterministicError) as caught:
            asked(tmp_path, engine, [(0, 1)])
        assert caught.value.reason == "context_full"
    assert engine.calls == 1


def test_a_notebook_of_other_questions_is_refused(tmp_path):
    asked(tmp_path, repeating("yes"), [(0, 1)])
    with pytest.raises(InputError, match="another run"):
        asked(tmp_path, repeating("yes"), [(0, 1)], owner="another plan")
