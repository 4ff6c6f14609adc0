"""What tells a user model's turns from people's, learned from a rehearsal of scripted models."""

import pytest

from usersim.conversation import Conversation, Message
from usersim.engines.scripted import ScriptedEngine
from usersim.errors import InputError
from usersim.files import write_conversations
from usersim.learn_likeness import LikenessSettings, learn_likeness, rehearsal, typed_by
from usersim.likeness import Likeness
from usersim.plan import Agenda, SimulateSettings
from usersim.simulate import simulate

SETTINGS = LikenessSettings(conversations=60, draws=3, people_turns=80)
SIMULATED = SimulateSettings(
    max_rounds=2, opener_threshold=1.0, given=("profile",), candidates=8, likeness="mine.npz"
)


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
    folder, out = people.parent / "rehearsal", people.parent / "likeness.npz"
    blind = people.parent / "blind.npz"
    Likeness.blind().write(blind)
    held = rehearsal(settings, SIMULATED, blind)
    answers = ScriptedEngine(lambda messages, sampling: f"Thing {sampling.seed} is one of many.")
    figures = simulate(held, ScriptedEngine(script), answers, folder, "recipe", 7)
    typed = typed_by(people, settings.people_turns, seed=7)
    learned = learn_likeness(typed, Agenda(held, "recipe", 7), folder, out)
    return learned, figures, out


def test_it_learns_openers_and_later_turns_apart_and_says_how_well(people):
    learned, _, out = learn(people)
    assert learned["first"] == {"people": 80, "simulated": 180, "auc": 1.0}
    assert learned["later"] == {"people": 80, "simulated": 180, "auc": 1.0}
    likeness = Likeness.read(out)
    texts = ["Can you tell me more about dogs?", "fix the 3th bug in file 9, it crashes"]
    assert [likeness.ranked(texts, opens, 1)[0] for opens in (True, False)] == [1, 1]


def test_later_turns_are_drawn_where_simulated_conversations_stand_and_users_are_free(people):
    heard = []

    def script(messages, sampling):
        heard.append(messages)
        return asking(messages, sampling)

    learn(people, script)
    assert not any(m.role == "system" for messages in heard for m in messages)
    later = [messages for messages in heard if messages]
    assert len(later) == 60 * 3
    assert all(messages[-1].content.startswith("Thing ") for messages in later)
    assert all(messages[0].content.startswith("Can you") for messages in later)


def test_every_draw_is_learned_from_but_those_that_a_guard_refused(people):
    def script(messages, sampling):
        return "You You You You You You You You" if sampling.seed % 3 == 0 else asking([], sampling)

    learned, figures, _ = learn(people, script)
    drawn = figures["conversations"] * 2 + figures["candidates_passed_over"]
    assert learned["first"]["simulated"] + learned["later"]["simulated"] == drawn
    assert sum(figures["guards"].values()) > 0


def test_too_few_turns_are_told_with_their_number(people):
    with pytest.raises(InputError, match="0 simulated turns \\(later\\)"):
        learn(people, lambda messages, sampling: "" if messages else asking(messages, sampling))


def test_too_few_people_are_told_before_anything_is_drawn(tmp_path):
    once = [person(number, rounds=1) for number in range(120)]
    write_conversations(tmp_path / "people" / "train.parquet", once)
    with pytest.raises(InputError, match=r"0 turns of people \(later\)"):
        typed_by(tmp_path / "people", 80, seed=7)
