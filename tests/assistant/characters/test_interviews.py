"""Interviews: planned beforehand, every reply kept with its ending, none asked twice."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.characters.interviews import (
    InterviewSettings,
    Sides,
    figures,
    hold_interviews,
    planned,
    read_interviews,
    to_conversation,
)
from assistant.characters.profile import find_profile
from usersim.engines.scripted import (
    ScriptedEngine,
    answers,
    dying,
    never_ending,
    refusing,
    repeating,
    talkative,
)
from usersim.errors import InputError, WorldError

SETTINGS = InterviewSettings(repeats=2, facts=4, conversations=3, rounds=3, concurrency=4)
PROFILE = find_profile("joram-pell")
PLAN = planned(PROFILE, SETTINGS)


def hold(folder, character, interviewer=None, plan=PLAN, settings=SETTINGS):
    sides = Sides(character, "You are Joram Pell.", interviewer or talkative(model="asker"))
    return asyncio.run(hold_interviews(plan, sides, settings, folder, PROFILE.name))


def test_the_plan_asks_facts_boundaries_and_open_questions():
    kinds = {o.kind for o in PLAN}
    assert kinds == {"fact", "anachronism", "false_relation", "identity_attack", "machine", "open"}
    assert [o.index for o in PLAN] == list(range(len(PLAN)))
    assert len(PLAN) == 2 * (4 + 32) + 3
    assert len(planned(PROFILE, InterviewSettings())) == 2 * (len(PROFILE.probes) + 32) + 6


def test_a_set_of_questions_of_ones_own_is_asked_too(tmp_path):
    lines = ["1. Who taught you?", "", '{"topic": "x", "question": "What was your bed?"}']
    path = tmp_path / "set.txt"
    path.write_text("\n".join([*lines, "Who taught you?"]), encoding="utf-8")
    wanted = SETTINGS.model_copy(update={"questions": str(path)})
    held, _ = hold(tmp_path / "a", talkative(), plan=planned(PROFILE, wanted))
    own = [(i.ask, i.repeat) for i in held if i.kind == "own"]
    asked = ("Who taught you?", "What was your bed?")
    assert own == [(ask, n) for ask in asked for n in range(2)]


@pytest.mark.parametrize("text", ["", "\n\n", '{"answer": "x"}', "{torn", None])
def test_a_file_without_a_question_is_told(tmp_path, text):
    path = tmp_path / "set.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match="question"):
        planned(PROFILE, SETTINGS.model_copy(update={"questions": str(path)}))


def test_every_reply_is_kept_with_how_it_ended(tmp_path):
    held, found = hold(tmp_path, never_ending())
    assert found["replies"] == 2 * 36 + 3 * 3
    assert found["cut"] == found["replies"]  # DC9: a cut reply is seen to be one
    assert {r.finish for i in held for r in i.replies} == {"length"}
    assert read_interviews(tmp_path / "interviews.jsonl") == held
    assert [i.ask for i in held] == [o.ask for o in PLAN]
    assert figures(held)["ended"] == {"rounds": len(PLAN)}
    for number, interview in enumerate(held):
        assert to_conversation(interview, number).assistant_turns == [
            r.text for r in interview.replies
        ]


def test_the_same_call_again_asks_nothing(tmp_path):
    held, _ = hold(tmp_path, talkative(model="c"))
    character, asker = talkative(model="c"), talkative(model="asker")
    again, found = hold(tmp_path, character, asker)
    assert (again, character.calls, asker.calls, found["asked"]) == (held, 0, 0, 0)


def test_a_dead_engine_stops_and_the_same_call_goes_on(tmp_path):
    with pytest.raises(WorldError, match="goes on"):
        hold(tmp_path, dying(talkative(model="c"), after=30))
    character = talkative(model="c")
    held, _ = hold(tmp_path, character)
    assert 0 < character.calls <= sum(len(i.replies) for i in held) - 30
    other = tmp_path / "other"
    assert hold(other, talkative(model="c"))[0] == held


def test_who_says_nothing_or_leaves_or_is_refused_ends_the_interview(tmp_path):
    silent, _ = hold(tmp_path / "a", repeating(""))
    assert {i.ended for i in silent} == {"nothing_said"}
    left, _ = hold(tmp_path / "b", talkative(), answers([]))
    assert {i.ended for i in left if i.kind == "open"} == {"interviewer_left"}
    assert all(len(i.replies) == 1 for i in left)
    refused, found = hold(tmp_path / "c", refusing(talkative(), "context_full"))
    assert found["ended"] == {"context_full": len(PLAN)}
    assert len(refused) == len(PLAN)  # DC10: as many as were planned, whatever happened


def test_an_interview_never_goes_on_for_ever(tmp_path):
    """DC5: the number of rounds is a bound, whoever goes on talking."""
    character = talkative()
    hold(tmp_path, character, talkative())
    assert character.calls == 2 * 36 + 3 * 3


def test_rounds_need_an_interviewer_and_another_plan_another_folder(tmp_path):
    sides = Sides(talkative(), "x")
    with pytest.raises(InputError, match="need an interviewer"):
        asyncio.run(hold_interviews(PLAN, sides, SETTINGS, tmp_path, "x"))
    hold(tmp_path, talkative(model="c"))
    with pytest.raises(InputError, match="another run"):
        hold(tmp_path, talkative(model="c"), plan=PLAN[:-1])


def test_the_interviewers_own_turns_are_described(tmp_path):
    """DC12: one who repeats a pattern and says thanks is seen to do so."""
    _, found = hold(tmp_path, talkative(), repeating("Thank you, that is so interesting?"))
    described = found["interviewer_turns"]
    assert described["turns"] == 6
    assert described["distinct_openings"] == pytest.approx(1 / 6)
    assert described["thank"] == 1.0


DRIVER = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.assistant.characters.test_interviews import PLAN, SETTINGS, hold
from usersim.engines.scripted import ScriptedEngine, talkative
log, last = open(sys.argv[2], "a"), int(sys.argv[3])
calls = 0

def script(messages, sampling):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return talkative(model="c")._script(messages, sampling)

hold(Path(sys.argv[1]), ScriptedEngine(script, "c"))
"""


def test_kill_9_loses_no_reply_and_asks_none_twice(tmp_path):
    root = Path(__file__).parents[3]
    wanted, _ = hold(tmp_path / "whole", talkative(model="c"))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "run"), str(tmp_path / "log"), "25"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, cwd=root, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    character = talkative(model="c")
    held, found = hold(tmp_path / "run", character)
    assert held == wanted
    assert found["remembered"] >= 24 - SETTINGS.concurrency  # but for those in flight
    total = sum(len(i.turns) - 1 for i in held)
    assert found["asked"] + found["remembered"] == total


def test_the_character_hears_its_header_and_the_interviewer_does_not(tmp_path):
    heard = {"c": [], "u": []}

    def listening(name):
        def script(messages, sampling):
            heard[name].append(messages)
            return f"{name} {sampling.seed}"

        return ScriptedEngine(script, name)

    hold(tmp_path, listening("c"), listening("u"))
    assert all(m[0].content == "You are Joram Pell." for m in heard["c"])
    assert heard["u"]
    assert all(m[0].role == "user" and m[-1].role == "assistant" for m in heard["u"])
