"""What tells a user model's turns from people's, learned with a scripted model."""

import pytest

from usersim.conversation import Conversation, Message
from usersim.engine import Completion
from usersim.engines.scripted import ScriptedEngine
from usersim.errors import DeterministicError, InputError, TransientError
from usersim.files import write_conversations
from usersim.learn_likeness import LikenessSettings, contexts, learn_likeness
from usersim.likeness import Likeness
from usersim.plan import FORBID_END, SamplingSettings

SETTINGS = LikenessSettings(turns=60, people_turns=80)


def person(number, rounds=2):
    typed = [f"fix the {number}th bug in file {turn}, it crashes" for turn in range(rounds)]
    messages = [m for t in typed for m in (Message("user", t), Message("assistant", "done"))]
    return Conversation(id=f"p{number}", messages=tuple(messages))


@pytest.fixture
def people(tmp_path):
    write_conversations(tmp_path / "people" / "train.parquet", map(person, range(120)))
    return tmp_path / "people"


def asking(messages, sampling):
    return f"Can you tell me more about thing {sampling.seed}?"


def learn(people, script=asking, **changed):
    settings = SETTINGS.model_copy(update=changed)
    out = people.parent / "likeness.npz"
    figures = learn_likeness(settings, SamplingSettings(), ScriptedEngine(script), people, out)
    return figures, out


def test_it_learns_openers_and_later_turns_apart_and_says_how_well(people):
    figures, out = learn(people)
    for part in ("first", "later"):
        assert figures[part]["simulated"] == 60
        assert figures[part]["people"] == 80
        assert figures[part]["auc"] == 1.0  # these two nobody could mistake
    assert figures["tokens"] == 2 * 60 * 8
    learned = Likeness.read(out)
    texts = ["Can you tell me more about dogs?", "fix the 3th bug in file 9, it crashes"]
    assert [learned.ranked(texts, opens, 1)[0] for opens in (True, False)] == [1, 1]


def test_nobody_leaves_while_turns_are_drawn_and_contexts_are_real(people):
    heard = []

    def script(messages, sampling):
        heard.append((tuple(m.content for m in messages), sampling.end_bias))
        return asking(messages, sampling)

    learn(people, script)
    assert {bias for _, bias in heard} == {FORBID_END}
    later = {words for words, _ in heard if words}
    real = {tuple(m.content for m in person(n).messages[:2]) for n in range(120)}
    assert len(later) == 60
    assert later <= real


def test_turns_that_were_cut_off_or_refused_teach_nothing(people):
    def script(messages, sampling):
        if sampling.seed % 6 == 0:
            raise DeterministicError("too long", reason="context_full")
        if sampling.seed % 6 == 3:
            raise TransientError("overloaded")
        if sampling.seed % 3 == 1:
            return Completion("and so on and so", "length", 1, 5)
        return asking(messages, sampling)

    figures, _ = learn(people, script, turns=150, people_turns=150)
    assert figures["first"]["simulated"] == 50


def test_too_few_turns_are_told_with_their_number(people):
    with pytest.raises(InputError, match="0 whole simulated ones"):
        learn(people, lambda messages, sampling: "")


def test_contexts_end_before_each_later_turn():
    found = list(contexts(person(1, rounds=9), None))
    assert [len(before) for before, _ in found] == [2, 4, 6]
    assert all(before[-1].role == "assistant" for before, _ in found)
    assert [turn for _, turn in found] == list(person(1, 9).user_turns[1:4])
