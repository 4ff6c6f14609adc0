"""Talking in the terminal: the person leaves, or the model does."""

from assistant.chat import chat
from usersim.engine import Completion


class Answers:
    """An engine that gives prepared turns."""

    model, context_tokens = "answers", 1000

    def __init__(self, opens, *texts):
        self.opens, self.texts, self.seen, self.closed = opens, list(texts), [], False

    async def complete(self, messages, sampling):
        self.seen.append([m.role for m in messages])
        self.may_leave = sampling.end_bias > -100
        return Completion(self.texts.pop(0), "stop")

    async def close(self):
        self.closed = True


def typed(*lines):
    waiting = list(lines)

    def read(prompt):
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return read


def test_a_person_asks_an_assistant_and_quits():
    engine, shown = Answers("assistant", "Four.", "Eight."), []
    chat("x", engine, typed("legs of a cat?", "", "  of a spider? ", "/quit"), shown.append)
    assert shown[1:] == ["assistant> Four.", "assistant> Eight."]
    assert engine.seen == [["user"], ["user", "assistant", "user"]]
    assert engine.closed


def test_a_user_simulator_speaks_first_and_may_leave():
    engine, shown = Answers("user", "hi can u help", ""), []
    chat("x", engine, typed("Of course."), shown.append)
    assert shown == [
        "You are the assistant; /quit leaves.",
        "user> hi can u help",
        "(user has left)",
    ]
    assert engine.seen == [[], ["user", "assistant"]]
    assert engine.may_leave, "after an answer, not before the first word"


def test_the_end_of_the_input_ends_the_talk():
    engine, shown = Answers("assistant"), []
    chat("x", engine, typed(), shown.append)
    assert engine.closed
    assert len(shown) == 1
