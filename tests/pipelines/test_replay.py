"""A conversation held again: the same, another text after the same words, or other inputs."""

import asyncio
import shutil
import sqlite3
from dataclasses import replace

import pytest
from scripted_run import held
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.recipe import Recipe
from pipelines.replay import replay, replay_async, report
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from usersim.engine import Completion
from usersim.engines import EngineSpec
from usersim.engines.scripted import ScriptedEngine, failing, overloaded, refusing, talkative
from usersim.errors import InputError, TransientError
from usersim.files import (
    read_conversations,
    read_rows,
    write_conversations,
    write_json,
    write_text,
)
from usersim.simulate import simulate_async

# Some openers are refused for their likeness to others, and no other conversation is there to see.
LOOSE = {"opener_words": 1, "opener_threshold": 0.4, "opener_attempts": 2}
CALM = {"retry_pause_s": 0.0}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return held(tmp_path_factory.mktemp("runs") / "clean", **LOOSE, **CALM)


@pytest.fixture
def run(clean, tmp_path):
    """A copy of it to harm."""
    return RunFolder(shutil.copytree(clean.root, tmp_path / "run"))


def ids(run):
    return [row["id"] for p in sorted(run.conversations.iterdir()) for row in read_rows(p)]


@pytest.fixture
def plain(run):
    """The number of a conversation in which nothing was refused: three rounds, and leaving."""
    with sqlite3.connect(run.journal / "part-00000.sqlite") as db:
        counts = "SELECT conversation, count(*) FROM attempt GROUP BY conversation"
        return next(str(index) for index, count in db.execute(counts) if count == 7)


def talking(**other):
    return {"user": talkative(3), "assistant": talkative()} | other


def twisted(engine, change, when=lambda messages: True):
    """The engine, with its answers changed by a function where `when` says so."""

    def script(messages, sampling):
        said = engine._script(messages, sampling)
        return change(said) if when(messages) else said

    return ScriptedEngine(script, engine.model)


def test_every_conversation_of_a_deterministic_engine_is_identical(run):
    before = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()}
    for identity in [*ids(run), *map(str, range(30))]:  # rejected ones too, by their number
        done = replay(run.root, identity)
        assert (done.verdict, done.turns, done.changed) == ("identical", 0, []), report(done)
        assert done.attempts > 0
    assert {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()} == before


def test_the_command_says_so(run, plain):
    done = CliRunner().invoke(app, ["replay", str(run.root), plain])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("identical: conversation ")
    assert "7 of 7 completions came out the same" in done.output


def test_another_text_after_the_same_words_is_the_engines_doing(run, plain):
    wobbly = twisted(talkative(), lambda said: said + " perhaps\x1b[2J", lambda m: len(m) > 2)
    done = replay(run.root, plain, talking(assistant=wobbly))
    assert (done.verdict, done.attempts, done.turns) == ("engine-nondeterministic", 7, 2)
    first = done.differences[0]
    assert (first.kind, first.position, first.role) == ("said", 3, "assistant")
    text = report(done)
    assert "5 of 7 completions came out the same" in text
    assert f"turn 3 (assistant), attempt 0, from character {len(first.before)}:" in text
    assert "perhaps\\x1b[2J" in text
    assert "\x1b" not in text


def test_later_turns_are_asked_for_as_they_were(run, plain):
    """What was said otherwise is heard by nobody, so one turn cannot spoil the rest."""
    heard = []

    def opens_otherwise(messages, sampling):
        heard.append(len(messages))
        return "Something else" if not messages else talkative(3)._script(messages, sampling)

    done = replay(run.root, plain, talking(user=ScriptedEngine(opens_otherwise, "u")))
    assert (done.turns, done.attempts, heard) == (1, 7, [0, 2, 4, 6])


def test_an_engine_that_refuses_is_a_difference(run, plain):
    done = replay(run.root, plain, talking(assistant=refusing(talkative())))
    assert (done.verdict, done.turns) == ("engine-nondeterministic", 3)
    assert "engine_refused" in done.differences[0].after


@pytest.mark.parametrize("after", range(4))
def test_a_transient_error_is_no_difference(run, plain, after):
    """What is asked again is compared with what it was asked for, not with the turn behind it."""
    hiccup = failing(talkative(), TransientError("busy"), times=2, after=after)
    done = replay(run.root, plain, talking(assistant=hiccup))
    assert (done.verdict, done.attempts) == ("identical", 7), report(done)
    assert hiccup.calls == 3 + (2 if after < 3 else 0)


def test_an_engine_that_does_not_answer_is_no_verdict(run, plain):
    with pytest.raises(TransientError, match="try again later"):
        replay(run.root, plain, talking(assistant=overloaded(talkative())))


def test_a_given_opener_was_asked_of_nobody(tmp_path):
    write_text(tmp_path / "briefs.jsonl", '{"opener": "how do magnets work?"}\n')
    run = held(tmp_path / "given", briefs=str(tmp_path / "briefs.jsonl"), conversations=2, **CALM)
    for number in "01":
        done = replay(run.root, number)
        assert (done.verdict, done.turns) == ("identical", 0), report(done)


def test_a_prompt_of_other_tokens_is_another_input(run, plain):
    def longer(said):
        return Completion(said, "stop", 999, len(said.split()))

    done = replay(run.root, plain, talking(assistant=twisted(talkative(), longer)))
    assert done.verdict == "inputs changed"
    assert "models: a prompt has other tokens" in report(done)


def test_a_changed_recipe_is_named_before_any_engine_is_asked(run, plain):
    recipe = Recipe.load(run.recipe_file, ["simulate.user_sampling.temperature=0.5"])
    write_text(run.recipe_file, recipe.to_yaml())
    silent = ScriptedEngine(lambda messages, sampling: 1 / 0)
    done = replay(run.root, plain, talking(user=silent, assistant=silent))
    assert (done.verdict, done.attempts) == ("inputs changed", 0)
    assert [line.split(":")[0] for line in done.changed] == ["recipe"]
    failed = CliRunner().invoke(app, ["replay", str(run.root), plain])
    assert failed.exit_code == 1
    assert failed.output.startswith("inputs changed: conversation ")


@pytest.mark.parametrize("own", [True, False])
def test_a_learned_likeness_that_is_another_or_gone_is_an_input_changed(run, tmp_path, own):
    path = run.likeness if own else tmp_path / "learned.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"arrays")
    changes = ["simulate.candidates=4", f"simulate.likeness='{'' if own else path}'"]
    recipe = Recipe.load(run.recipe_file, changes)
    write_text(run.recipe_file, recipe.to_yaml())
    run.reopen(stage_named("simulate"), Recipe.load(run.recipe_file))
    run.begin(stage_named("simulate"), recipe)
    path.write_bytes(b"others")
    key = "the run's likeness" if own else "simulate.likeness"
    done = replay(run.root, "0")
    assert done.verdict == "inputs changed"
    assert [line.split(": ")[0] for line in done.changed] == [key]
    path.unlink()
    done = replay(run.root, "0")
    assert done.verdict == "inputs changed"
    assert done.changed == [f"likeness: {path} is gone, by which one of 4 turns was chosen"]


def test_another_journal_is_another_plan(run, plain):
    with sqlite3.connect(run.journal / "part-00000.sqlite") as db:
        db.execute("UPDATE owner SET value = '8' WHERE name = 'seed'")
    assert replay(run.root, plain).changed == ["plan: seed 8 then, 7 now"]
    assert replay(run.root, "29").verdict == "identical"  # of another shard


def test_a_row_of_another_model_has_other_inputs(run):
    path = run.conversations / "part-00000.parquet"
    rows = [replace(c, assistant_model="older") for c in read_conversations(path)]
    write_conversations(path, rows)
    assert replay(run.root, rows[0].id).changed == [
        "models: assistant_model older then, talkative now"
    ]


def test_a_turn_judged_by_other_rules(run, plain, monkeypatch):
    monkeypatch.setattr("usersim.talk.refuse_turn", lambda *_: "too_long")
    done = replay(run.root, plain)
    assert (done.verdict, done.differences[0].kind) == ("inputs changed", "judged")
    assert "rules: this version" in report(done)


def test_a_difference_where_versions_differ_is_laid_to_them(run, plain):
    metrics = run.metrics()
    write_json(run.metrics_file, metrics | {"versions": metrics["versions"] | {"torch": "1.0"}})
    assert replay(run.root, plain).verdict == "identical"  # whatever made it
    done = replay(run.root, plain, talking(user=twisted(talkative(3), str.upper)))
    assert done.verdict == "inputs changed"
    assert done.changed[0].startswith("torch: 1.0 then,")


def test_conversations_that_are_not_there(run, tmp_path):
    for identity in ("0123456789abcdef", "30", "nonsense", "-1"):
        with pytest.raises(InputError, match="no conversation"):
            replay(run.root, identity)
    with pytest.raises(InputError, match="no run folder"):
        replay(tmp_path / "nothing", "0")
    (run.journal / "part-00000.sqlite").unlink()
    with pytest.raises(InputError, match=r"part-00000\.sqlite"):
        replay(run.root, "0")


@pytest.mark.slow
def test_the_real_engine_repeats_itself_alone(tmp_path, served_checkpoint):
    """One conversation at a time, so that no batch changes anything: the text is the plan's."""
    from usersim.engines.vllm_engine import VllmEngine

    run = held(tmp_path / "run", conversations=1)  # its folder, journal and marks; then its words:
    spec = EngineSpec(model=str(served_checkpoint), opens="assistant", kv_cache_gb=0.2, name="tiny")

    async def twice():
        engine = VllmEngine.open(spec)
        recipe = Recipe.load(run.recipe_file)
        simulate, identity = recipe.simulate, recipe.identity(stage_named("simulate"))
        shutil.rmtree(run.journal)
        shutil.rmtree(run.conversations)
        try:
            await simulate_async(simulate, talkative(3), engine, run.root, identity, recipe.seed)
            for path in run.conversations.iterdir():
                path.unlink()  # its lineage names the tiny model, the recipe a scripted one
            same = await replay_async(run.root, "0", talking(assistant=engine))
            other = await replay_async(run.root, "0", talking(assistant=reseeded(engine)))
        finally:
            await engine.close()
        return same, other

    same, other = asyncio.run(twice())
    assert same.verdict == "identical", report(same)
    assert same.attempts >= 3
    assert other.verdict == "engine-nondeterministic", report(other)


def reseeded(engine):
    """The engine, drawing with other seeds: as a batch-dependent one might."""

    class Reseeded:
        model, context_tokens = engine.model, engine.context_tokens

        async def complete(self, messages, sampling):
            return await engine.complete(messages, replace(sampling, seed=sampling.seed + 1))

        async def close(self):
            pass

    return Reseeded()
