"""What a brief does to a conversation: who is told what, and where the first turn comes from."""

from usersim.conditions import user_system
from usersim.engines.scripted import ScriptedEngine
from usersim.files import read_conversations, write_text
from usersim.plan import Agenda, SimulateSettings
from usersim.simulate import simulate

BRIEFS = """\
{"opener": "how do magnets work?"}
{"intent": "buy a boat", "profile": "tone polite", "intent_id": "i7", "persona_id": "p9"}
{"assistant_system": "You are a pirate."}
"""


class Listening(ScriptedEngine):
    """Answers by what it was told, and remembers every prompt."""

    def __init__(self, role):
        self.heard = []

        def script(messages, sampling):
            self.heard.append([(m.role, m.content) for m in messages])
            return f"{role} says something new, number {len(self.heard)} and {sampling.seed}"

        super().__init__(script, model=role)


def hold(tmp_path, user, assistant):
    write_text(tmp_path / "briefs.jsonl", BRIEFS)
    settings = SimulateSettings(
        conversations=6, max_rounds=2, concurrency=1, briefs=str(tmp_path / "briefs.jsonl"),
        opener_threshold=1.0,
    )  # fmt: skip
    figures = simulate(settings, user, assistant, tmp_path / "run", "r", 7)
    agenda = Agenda.of(settings, "r", 7, tmp_path / "run")
    by_id = {
        c.id: c
        for path in (tmp_path / "run/conversations").glob("*")
        for c in read_conversations(path)
    }
    return figures, [by_id[agenda.plan(i).id] for i in range(6)]


def test_a_given_opener_stands_and_costs_nothing(tmp_path):
    user = Listening("user")
    figures, held = hold(tmp_path, user, Listening("assistant"))
    assert [c.opener for c in held].count("how do magnets work?") == 2
    assert held[0].opener == held[3].opener == "how do magnets work?"  # no near-duplicate refused
    assert figures["conversations"] == 6
    assert len(user.heard) == 6 * 2 - 2


def test_conditions_reach_the_user_only_and_lineage_says_so(tmp_path):
    user, assistant = Listening("user"), Listening("assistant")
    _, held = hold(tmp_path, user, assistant)
    told = user_system("buy a boat", "tone polite")
    systems = [heard[0][1] for heard in user.heard if heard and heard[0][0] == "system"]
    assert systems == [told] * 4
    assert not any(told in text for heard in assistant.heard for _, text in heard)
    assert [(c.intent_id, c.persona_id) for c in held[:3]] == [
        (None, None), ("i7", "p9"), (None, None)
    ]  # fmt: skip


def test_a_brief_may_speak_to_the_assistant_and_the_row_holds_it(tmp_path):
    assistant = Listening("assistant")
    _, held = hold(tmp_path, Listening("user"), assistant)
    assert [c.system for c in held][2::3] == ["You are a pirate."] * 2
    pirates = [h for h in assistant.heard if h[0] == ("system", "You are a pirate.")]
    assert len(pirates) == 4


def test_a_resumed_run_keeps_its_given_openers(tmp_path):
    first = Listening("user")
    _, before = hold(tmp_path, first, Listening("assistant"))
    again = Listening("user")
    _, after = hold(tmp_path, again, Listening("assistant"))
    assert after == before
    assert again.heard == []
