"""The simulation loop, with scripted engines: nothing lost, nothing doubled, every way to stop."""

import asyncio
import json
import re
import sqlite3
from collections import Counter

import pytest

from usersim.engine import Completion
from usersim.engines import EngineSpec
from usersim.engines.scripted import (
    HeldEngine,
    ScriptedEngine,
    answers,
    dying,
    echo,
    failing,
    never_ending,
    overloaded,
    refusing,
    repeating,
    role_flipping,
    talkative,
)
from usersim.errors import DeterministicError, InputError, WorldError
from usersim.files import read_conversations, read_rows
from usersim.plan import FORBID_END, Agenda
from usersim.simulate import SimulateSettings, simulate, simulate_async


def settings(**changed):
    given = {"conversations": 30, "shard_size": 12, "concurrency": 8, "retry_pause_s": 0.0}
    return SimulateSettings(**(given | changed))


def hold(run, user=None, assistant=None, **changed):
    """Simulate with scripted engines; a talkative pair unless told otherwise."""
    user, assistant = user or talkative(rounds=2, model="u"), assistant or talkative(model="a")
    return simulate(settings(**changed), user, assistant, run, "recipe-1", 7)


def published(run):
    return [
        c for path in sorted((run / "conversations").glob("*")) for c in read_conversations(path)
    ]


def rejected(run):
    return read_rows(run / "rejected" / "simulate.parquet")


def journaled(run):
    rows = []
    for path in sorted((run / "journal").glob("*.sqlite")):
        with sqlite3.connect(path) as db:
            rows += db.execute(
                "SELECT conversation, position, reason, text FROM attempt"
            ).fetchall()
    return rows


def conversation_by(user_lines, assistant_lines, run, **changed):
    """The one conversation, or None, that two speakers with given lines hold."""
    figures = hold(run, answers(user_lines), answers(assistant_lines), conversations=1, **changed)
    return next(iter(published(run)), None), figures


def test_every_planned_conversation_is_published_or_rejected(tmp_path):
    # Every fifth opener, and now and then an answer, is refused for good.
    broken = talkative(rounds=2)
    user = ScriptedEngine(
        lambda m, s: "" if not m and s.seed % 3 else broken._script(m, s), context_tokens=4096
    )
    figures = hold(tmp_path, user, opener_attempts=2)
    rows, refused = published(tmp_path), rejected(tmp_path)
    assert refused
    assert rows
    assert len(rows) + len(refused) == 30 == figures["planned"]
    ids = [c.id for c in rows] + [r["id"] for r in refused]
    assert sorted(ids) == sorted(Agenda(settings(), "recipe-1", 7).plan(i).id for i in range(30))
    assert {r["reason"] for r in refused} == {"empty"}
    assert figures["conversations"] == len(rows)
    assert sum(figures["rounds"].values()) == len(rows)
    assert [len(read_rows(p)) for p in sorted((tmp_path / "conversations").glob("*"))]


def test_rows_carry_their_lineage_and_alternate(tmp_path):
    hold(tmp_path, assistant_system="Be brief.", license="cc0-1.0")
    for row in published(tmp_path):
        assert [m.role for m in row.messages] == [
            "system",
            "user",
            "assistant",
            "user",
            "assistant",
        ]
        assert (row.user_model, row.assistant_model) == ("u", "a")
        assert (row.recipe, row.source, row.license) == ("recipe-1", "realchat", "cc0-1.0")
        assert row.stop_reason == "user_ended"
        assert row.user_tokens == sum(len(t.split()) for t in row.user_turns)
        assert row.assistant_tokens == sum(len(t.split()) for t in row.assistant_turns)
        assert row.seed is not None


def test_the_plan_is_the_same_for_any_concurrency(tmp_path):
    one = {c.id: c for c in (hold(tmp_path / "1", concurrency=1), *published(tmp_path / "1"))[1:]}
    many = {c.id: c for c in (hold(tmp_path / "9", concurrency=29), *published(tmp_path / "9"))[1:]}
    assert len(one) == 30
    assert one == many  # a talkative engine's words depend on messages and seed only


def test_another_seed_or_recipe_is_another_plan():
    ids = [
        {Agenda(settings(), recipe, seed).plan(i).id for i in range(200)}
        for recipe, seed in (("a", 1), ("a", 2), ("b", 1))
    ]
    assert all(len(some) == 200 for some in ids)
    assert len(set.union(*ids)) == 600


LINES = ["how do I boil an egg properly", "and how long for a soft one", "what about two of them"]
REPLIES = ["Put it into water.", "Six minutes for a soft one.", "The same time for both."]


def test_stops_when_the_user_leaves(tmp_path):
    row, figures = conversation_by([LINES[0], ""], REPLIES, tmp_path)
    assert row.stop_reason == "user_ended"
    assert row.num_rounds == 1
    assert figures["guards"] == {}


def test_a_user_may_not_leave_before_min_rounds(tmp_path):
    row, figures = conversation_by([LINES[0], "", LINES[1], ""], REPLIES, tmp_path, min_rounds=2)
    assert row.num_rounds == 2
    assert figures["guards"] == {"user:empty": 1}


def test_leaving_is_forbidden_then_biased(tmp_path):
    biases = []

    def script(messages, sampling):
        biases.append(sampling.end_bias)
        return LINES[len(messages) // 2] if len(messages) < 6 else ""

    own = {"conversations": 1, "min_rounds": 2, "end_bias": (9.0, 1.5, 0.5)}
    hold(tmp_path, ScriptedEngine(script), **own)
    assert biases == [FORBID_END, FORBID_END, 1.5, 0.5]


def test_stops_at_max_rounds(tmp_path):
    figures = hold(tmp_path, talkative(), max_rounds=3)
    assert figures["stop_reasons"] == {"max_rounds": 30}
    assert figures["rounds"] == {"3": 30}


def test_stops_before_a_round_that_would_not_fit(tmp_path):
    figures = hold(
        tmp_path,
        talkative(),
        token_budget=260,
        max_rounds=50,
        user_sampling={"max_tokens": 60},
        assistant_sampling={"max_tokens": 60},
    )
    assert figures["stop_reasons"] == {"token_budget": 30}
    assert figures["unanswered_turns"] == 0


def test_a_full_context_ends_after_the_last_whole_round(tmp_path):
    full = DeterministicError("too long", reason="context_full")
    row, figures = conversation_by(LINES, [], tmp_path / "none")
    assert row is None
    figures = hold(tmp_path, None, failing(talkative(), full, after=1), conversations=1)
    [row] = published(tmp_path)
    assert (row.stop_reason, row.num_rounds) == ("token_budget", 1)
    assert figures["unanswered_turns"] == 1


def test_stops_when_a_speaker_repeats_themselves(tmp_path):
    figures = hold(tmp_path, talkative(), repeating("The same long answer again and again."))
    assert figures["stop_reasons"] == {"repetition": 30}
    assert figures["rounds"] == {"1": 30}
    assert figures["guards"] == {"assistant:parroting": 90}


def test_stops_when_a_short_turn_comes_thrice(tmp_path):
    row, _ = conversation_by(
        [LINES[0], "go on", "go on", "go on"], [*REPLIES, "It is done."], tmp_path
    )
    assert row.stop_reason == "max_rounds"
    row, _ = conversation_by(["go on"] * 4, [*REPLIES, "Done."], tmp_path / "b", max_rounds=9)
    assert (row.stop_reason, row.num_rounds) == ("repetition", 3)


def test_stops_a_loop_of_goodbyes(tmp_path):
    row, _ = conversation_by(
        [LINES[0], "thanks, bye", "bye"], [REPLIES[0], "You're welcome! Goodbye.", "Take care!"],
        tmp_path, max_rounds=9,
    )  # fmt: skip
    assert (row.stop_reason, row.num_rounds) == ("goodbye_loop", 3)


def test_stops_a_loop_of_refusals(tmp_path):
    refusals = ["I'm sorry, but I cannot do that.", "I can't help with this request, sorry."]
    row, _ = conversation_by(LINES, refusals, tmp_path, max_rounds=9)
    assert (row.stop_reason, row.num_rounds) == ("refusal_loop", 2)


def test_a_refusal_said_in_the_same_words_is_a_loop_of_refusals_too(tmp_path):
    refusals = ["I'm sorry, but I can't help with that."] * 2
    row, _ = conversation_by(LINES, refusals, tmp_path, max_rounds=9)
    assert (row.stop_reason, row.num_rounds) == ("refusal_loop", 2)


def test_a_user_who_falls_into_another_language_is_asked_again(tmp_path):
    spanish = "pero no entiendo bien por qué el huevo tiene que estar tanto tiempo en el agua"
    user = ScriptedEngine(lambda heard, _: spanish if heard else LINES[0], model="u")
    hold(tmp_path, user, answers(["Ten minutes."]), conversations=1)
    assert {reason for *_, reason, _ in journaled(tmp_path)} == {"", "wrong_language"}
    (row,) = published(tmp_path)
    assert (list(row.user_turns), row.stop_reason) == (LINES[:1], "bad_turn")


def test_stops_without_an_acceptable_turn(tmp_path):
    row, figures = conversation_by(
        [LINES[0], *["I hope this helps! Let me know if you have any questions."] * 3],
        REPLIES, tmp_path,
    )  # fmt: skip
    assert (row.stop_reason, row.num_rounds) == ("bad_turn", 1)
    assert figures["guards"] == {"user:role_confusion": 3}


def test_a_deterministic_error_ends_one_conversation_with_what_it_has(tmp_path):
    asked = Counter()

    def script(messages, sampling):
        asked["n"] += 1
        if asked["n"] == 5:
            raise DeterministicError("no", reason="engine_refused")
        return f"answer number {asked['n']} to what was said"

    figures = hold(tmp_path, talkative(2), ScriptedEngine(script), concurrency=1)
    assert figures["stop_reasons"]["user_ended"] + figures["rejected"] == 30
    assert figures["rejected_reasons"] == {"engine_refused": 1}
    broken = failing(talkative(), DeterministicError("no"), after=1)
    figures = hold(tmp_path / "b", None, broken, conversations=1, max_error_rate=1.0)
    assert figures["stop_reasons"] == {"error": 1}
    assert figures["rounds"] == {"1": 1}


def test_a_user_turn_cut_by_length_is_drawn_again_and_an_answer_is_kept(tmp_path):
    figures = hold(tmp_path, None, never_ending(), conversations=4)
    assert figures["truncated_answers"] == 8
    figures = hold(tmp_path / "b", never_ending(), conversations=4, opener_attempts=2)
    assert figures["rejected_reasons"] == {"cut_off": 4}
    assert figures["opener_retries"] == 8


def test_a_flipped_user_is_refused(tmp_path):
    figures = hold(tmp_path, role_flipping(), conversations=3)
    assert figures["rejected_reasons"] == {"role_confusion": 3}


def test_echoes_are_parrots(tmp_path):
    figures = hold(tmp_path, None, echo(), conversations=3)
    assert figures["rejected_reasons"] == {"parroting": 3}


def test_no_two_openers_are_near_duplicates(tmp_path):
    figures = hold(
        tmp_path, repeating("please tell me a story about a brave little mouse"), max_rounds=1,
        conversations=10, opener_attempts=3,
    )  # fmt: skip
    assert figures["conversations"] == 1
    assert figures["rejected_reasons"] == {"near_duplicate_opener": 9}
    assert figures["opener_retries"] == 27


def test_transient_errors_are_tried_again_within_bounds(tmp_path):
    figures = hold(tmp_path, overloaded(talkative(2), times=3), concurrency=1)
    assert figures["conversations"] == 30
    assert figures["transient_retries"] == 3
    figures = hold(tmp_path / "b", overloaded(talkative(2)), conversations=3, transient_retries=2,
        max_error_rate=1.0,
    )  # fmt: skip
    assert figures["rejected_reasons"] == {"transient_exhausted": 3}
    assert figures["transient_retries"] == 6


def test_too_many_errors_stop_the_run_and_keep_what_is_made(tmp_path):
    engine = refusing(talkative())
    with pytest.raises(WorldError, match="ended in an engine's error"):
        hold(tmp_path, None, engine, conversations=200)
    assert engine.calls < 60


def test_a_callers_dead_engine_stops_the_run_and_the_same_call_resumes(tmp_path):
    with pytest.raises(WorldError, match=r"an engine died: scripted: dead; .*same command resumes"):
        hold(tmp_path, None, dying(talkative(), after=20))
    before = journaled(tmp_path)
    assert before
    hold(tmp_path)
    assert set(before) <= set(journaled(tmp_path))
    assert len(published(tmp_path)) == 30


def test_resuming_says_what_an_unbroken_run_says(tmp_path):
    hold(tmp_path / "whole")
    for after in (1, 7, 13, 17, 25):
        with pytest.raises(WorldError):
            hold(tmp_path / "broken", dying(talkative(2, "u"), after=after), talkative(model="a"))
    hold(tmp_path / "broken")
    assert published(tmp_path / "broken") == published(tmp_path / "whole")
    assert sorted(journaled(tmp_path / "broken")) == sorted(journaled(tmp_path / "whole"))


def test_a_finished_run_asks_nothing_and_says_the_same(tmp_path):
    first = hold(tmp_path)
    user = dying(talkative())
    assert hold(tmp_path, user) == first
    assert user.calls == 0
    # Not even an engine that cannot be opened is missed.
    spec = EngineSpec(kind="scripted", model="no such script")
    assert simulate(settings(), spec, spec, tmp_path, "recipe-1", 7) == first


def test_another_recipe_is_refused_with_the_difference(tmp_path):
    hold(tmp_path)
    with pytest.raises(InputError, match="recipe: recipe-1 there, recipe-2 now"):
        simulate(settings(), talkative(2), talkative(), tmp_path, "recipe-2", 7)


def test_two_processes_cannot_share_a_run(tmp_path):
    released = asyncio.Event()

    async def both():
        args = (settings(), HeldEngine(talkative(2), released), talkative(), tmp_path, "r", 1)
        first = asyncio.create_task(simulate_async(*args))
        await asyncio.sleep(0)
        try:
            with pytest.raises(WorldError, match="another process"):
                await simulate_async(*args)
        finally:
            released.set()
        return await first

    assert asyncio.run(both())["conversations"] == 30


def test_conversations_run_at_once_up_to_the_limit(tmp_path):
    assert hold(tmp_path)["peak_requests"] == 8


def test_memory_is_not_asked_for_conversations_not_begun(tmp_path):
    """A journal is opened when its shard is reached, and closed when the shard is published."""
    opened = []

    def script(messages, sampling):
        opened.append(len(list((tmp_path / "journal").glob("*.sqlite"))))
        return ""

    hold(tmp_path, ScriptedEngine(script), conversations=40, shard_size=4, concurrency=2)
    assert opened[0] == 1
    assert opened == sorted(opened)


def test_figures_are_json_and_add_up(tmp_path):
    figures = json.loads(json.dumps(hold(tmp_path)))
    tokens = [len(t.split()) for c in published(tmp_path) for t in c.assistant_turns]
    assert figures["tokens"]["assistant"] == sum(tokens)
    assert figures["tokens_per_s"]["assistant"] == pytest.approx(sum(tokens) / figures["seconds"])
    assert figures["sessions"] == 1
    assert figures["rounds_mean"] == 2


def test_completions_of_spaces_do_not_make_turns(tmp_path):
    row, figures = conversation_by(
        [Completion("  \n", "length"), LINES[0], " "], ["  ", REPLIES[0]], tmp_path
    )
    assert row.num_rounds == 1
    assert figures["guards"] == {"assistant:empty": 1, "user:empty": 1}


def test_settings_say_what_each_field_is():
    for name, field in SimulateSettings.model_fields.items():
        assert field.description, name
        assert re.match(r"\S", field.description)
