"""Several candidates for a user turn: one is taken, all are counted, nothing else changes."""

import asyncio
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from usersim.engine import Completion
from usersim.engines.scripted import ScriptedEngine, talkative
from usersim.errors import DeterministicError, EngineDead, InputError, TransientError
from usersim.fidelity.classifiers import LinearModel
from usersim.files import read_conversations
from usersim.journal import Journal
from usersim.likeness import Likeness, noticed
from usersim.outcome import PASSED_OVER, records
from usersim.plan import FORBID_END, Agenda, SimulateSettings
from usersim.reenact import reenact
from usersim.simulate import simulate
from usersim.talk import Drained, Simulator, Talk

WORDS = ["tide", "lamp", "moss", "fern", "gate", "kiln", "plum", "reed", "sail", "vane", "yoke"]


def unlike(seed):
    """Five words that hardly two seeds share."""
    return " ".join(f"{WORDS[seed // 11**n % 11]}{seed % 997}" for n in range(5))


def user_script(messages, sampling):
    """By its seed half of the turns are as people type; who may leave does so one time in four."""
    if sampling.end_bias != FORBID_END and messages and sampling.seed % 4 == 0:
        return ""
    start = "Can you tell me how" if sampling.seed % 2 else "fix the bug"
    return f"{start} {unlike(sampling.seed)}" + ("?" if sampling.seed % 2 else "")


@pytest.fixture(scope="module")
def likeness(tmp_path_factory):
    people = [f"fix the bug {unlike(n)}" for n in range(80)]
    model = [f"Can you tell me how {unlike(n)}?" for n in range(80)]
    learned = LinearModel.fit(noticed(people + model), np.arange(160) < 80)
    path = tmp_path_factory.mktemp("likeness") / "likeness.npz"
    Likeness(learned, learned).write(path)
    return path


def settings(likeness, **changed):
    given = {"conversations": 40, "shard_size": 40, "concurrency": 8, "max_rounds": 3}
    return SimulateSettings(
        **(given | {"candidates": 4, "likeness": str(likeness), "retry_pause_s": 0.0} | changed)
    )


def hold(run, likeness, script=user_script, **changed):
    user, assistant = ScriptedEngine(script, "u"), talkative(model="a")
    return simulate(settings(likeness, **changed), user, assistant, run, "r", 7)


def recorded(run):
    with closing(Journal(run / "journal/part-00000.sqlite", owner_of(run))) as journal:
        return list(records(journal))


def owner_of(run):
    agenda = Agenda(SimulateSettings(conversations=40, shard_size=40), "r", 7)
    return agenda.owner(agenda.shards()[0])


def published(run):
    return read_conversations(run / "conversations/part-00000.parquet")


def share_of_questions(run):
    turns = [t for c in published(run) for t in c.user_turns]
    return sum(t.endswith("?") for t in turns) / len(turns)


def test_turns_become_as_people_type(likeness, tmp_path):
    hold(tmp_path / "plain", likeness, candidates=1)
    hold(tmp_path / "chosen", likeness)
    assert share_of_questions(tmp_path / "plain") > 0.3
    assert share_of_questions(tmp_path / "chosen") < 0.15


def test_all_candidates_are_in_the_journal_and_one_stands(likeness, tmp_path):
    figures = hold(tmp_path, likeness)
    passed, tokens = 0, Counter()
    for record in recorded(tmp_path):
        by_turn = Counter(a.position for a in record.attempts if a.role == "user")
        standing = Counter(a.position for a in record.attempts if a.accepted)
        assert set(standing.values()) <= {1}
        for position, number in by_turn.items():
            assert number % 4 == 0 or not standing[position]  # who leaves is asked no further
        passed += sum(a.reason == PASSED_OVER for a in record.attempts)
        for attempt in record.attempts:
            tokens[attempt.role] += attempt.completion_tokens
    assert figures["candidates_passed_over"] == passed > 0
    assert "user:passed_over" not in figures["guards"]
    spent = figures["tokens"]["user"] + figures["tokens_refused"] + figures["tokens_passed_over"]
    assert spent == tokens["user"] == figures["usage"]["user"]["completion"]


def test_whether_a_user_leaves_is_the_first_candidates_to_say(likeness, tmp_path):
    hold(tmp_path, likeness)
    for record in recorded(tmp_path):
        for attempt in record.attempts:
            assert attempt.reason != "left" or attempt.attempt % 4 == 0
    rounds = Counter(c.num_rounds for c in published(tmp_path))
    assert rounds[1] < 20  # one in four after each round, not one in four of each candidate


def test_an_empty_candidate_after_the_first_is_refused_and_nobody_leaves(likeness, tmp_path):
    def script(messages, sampling):
        later = sampling.end_bias == FORBID_END and messages
        return "" if later and sampling.seed % 2 else f"fix the bug {unlike(sampling.seed)}"

    figures = hold(tmp_path, likeness, script, min_rounds=1, max_rounds=3)
    assert figures["guards"]["user:empty"] > 0
    assert figures["stop_reasons"] == {"max_rounds": 40}


def test_a_near_duplicate_opener_gives_way_to_the_next_candidate(likeness, tmp_path):
    def script(messages, sampling):
        if not messages and sampling.seed % 2:
            return "fix the bug that everybody has in the parser"
        return user_script(messages, sampling)

    figures = hold(tmp_path, likeness, script)
    openers = [c.opener for c in published(tmp_path)]
    assert openers.count("fix the bug that everybody has in the parser") == 1
    assert figures["guards"]["user:near_duplicate_opener"] > 0
    assert len(openers) == 40


def test_tries_are_bounded_when_no_candidate_can_stand(likeness, tmp_path):
    def script(messages, sampling):
        return Completion("and so on", "length", 1, 3) if not messages else "more of it"

    figures = hold(tmp_path, likeness, script, opener_attempts=2)
    assert figures["conversations"] == 0
    assert {len(r.attempts) for r in recorded(tmp_path)} == {8}


def test_what_a_kill_left_of_a_try_is_not_taken_up(likeness, tmp_path):
    agenda = Agenda(settings(likeness), "r", 7)
    with closing(Journal(tmp_path / "journal/part-00000.sqlite", owner_of(tmp_path))) as journal:
        hold(tmp_path / "whole", likeness)
        whole = recorded(tmp_path / "whole")
        assert whole[0].attempts[0].position == whole[0].attempts[1].position == 0
        cut = [a for a in whole[0].attempts[:3] if not a.accepted][:1]
        asyncio.run(journal.add(cut[0]))
    hold(tmp_path, likeness)
    again = recorded(tmp_path)[0]
    numbers = [a.attempt for a in again.attempts if a.position == 0]
    assert numbers == [cut[0].attempt, *range(4, 8)]
    assert len(published(tmp_path)) == agenda.settings.conversations


def test_a_conversation_held_again_is_the_same(likeness, tmp_path):
    hold(tmp_path, likeness)
    agenda = Agenda(settings(likeness), "r", 7)
    for record in recorded(tmp_path)[:12]:
        engines = {"user": ScriptedEngine(user_script, "u"), "assistant": talkative(model="a")}
        again = asyncio.run(reenact(record, agenda.plan(record.index), settings(likeness), engines))
        assert again.differences == []
        assert again.attempts == len(record.attempts)


def test_candidates_that_are_asked_again_are_told_apart(likeness, tmp_path):
    """Each fails none, one or two times, so that they come back in an order of their own."""
    hold(tmp_path, likeness)
    agenda, failed = Agenda(settings(likeness), "r", 7), Counter()

    def hiccups(messages, sampling):
        failed[sampling.seed] += 1
        if failed[sampling.seed] <= sampling.seed % 3:
            raise TransientError("busy")
        return user_script(messages, sampling)

    for record in recorded(tmp_path)[:6]:
        engines = {"user": ScriptedEngine(hiccups, "u"), "assistant": talkative(model="a")}
        again = asyncio.run(reenact(record, agenda.plan(record.index), settings(likeness), engines))
        assert again.differences == []
        assert again.attempts == len(record.attempts)
    assert max(failed.values()) == 3


def first_of_four(error):
    """An engine that answers one candidate; of the three others one fails, two would hang."""
    asked = []

    async def complete(messages, sampling):
        asked.append("asked")
        if len(asked) == 1:
            return Completion("fix the bug in the parser", "stop", 1, 6)
        if len(asked) == 4:
            raise error
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asked.append("cancelled")
            raise
        raise AssertionError("it would wait for ever")

    engine = ScriptedEngine(lambda messages, sampling: "", "u")
    engine.complete = complete
    return engine, asked


def held_alone(likeness, path, user, may_go_on=lambda: True):
    """One conversation's ending; afterwards nothing is under way, and nothing is in its journal."""
    plans = Agenda(settings(likeness, transient_retries=0), "r", 7)
    engines = {"user": user, "assistant": talkative(model="a")}
    simulator = Simulator(plans.settings, engines, NoOpeners(), may_go_on)

    async def hold(journal):
        try:
            return await simulator.converse(Talk(plans.plan(0), journal))
        finally:
            assert len(asyncio.all_tasks()) == 1

    with closing(Journal(path, {})) as journal:
        try:
            return asyncio.run(hold(journal))
        finally:
            assert list(journal.attempts()) == []


class NoOpeners:
    def offer(self, key, text):
        return None


def test_a_candidate_that_fails_takes_the_others_back(likeness, tmp_path):
    """Each error arrives as itself, and no request is left in the engine."""
    user, asked = first_of_four(DeterministicError("refused", "engine_refused"))
    ending = held_alone(likeness, tmp_path / "refused.sqlite", user)
    assert (ending.stop_reason, ending.reason) == ("error", "engine_refused")
    assert Counter(asked) == {"asked": 4, "cancelled": 2}
    user, asked = first_of_four(TransientError("overloaded"))
    ending = held_alone(likeness, tmp_path / "overloaded.sqlite", user)
    assert ending.reason == "transient_exhausted"
    assert Counter(asked) == {"asked": 4, "cancelled": 2}
    user, asked = first_of_four(EngineDead("gone"))
    with pytest.raises(EngineDead, match="gone"):
        held_alone(likeness, tmp_path / "dead.sqlite", user)
    assert Counter(asked) == {"asked": 4, "cancelled": 2}


@pytest.mark.parametrize("answered", [1, 2, 3])
def test_a_drain_amid_the_candidates_leaves_nothing_of_the_turn(likeness, tmp_path, answered):
    user = ScriptedEngine(user_script, "u")
    with pytest.raises(Drained):
        held_alone(likeness, tmp_path / "j.sqlite", user, lambda: user.calls < answered)
    assert user.calls == answered


def test_somebody_who_is_told_who_they_are_is_not_chosen_for(likeness, tmp_path):
    briefs = tmp_path / "briefs.jsonl"
    briefs.write_text('{"profile": "questions always"}\n')
    figures = hold(tmp_path / "run", likeness, briefs=str(briefs))
    assert figures["candidates_passed_over"] == 0


def test_a_cast_that_is_told_who_it_is_needs_no_likeness(tmp_path):
    figures = hold(tmp_path, tmp_path / "none.npz", conversations=4, cast={"personas": 2})
    assert figures["conversations"] == 4
    assert figures["candidates_passed_over"] == 0


def test_without_a_learned_likeness_nothing_begins(tmp_path):
    with pytest.raises(InputError, match="learn-likeness"):
        hold(tmp_path, tmp_path / "none.npz")
