"""A run grows: what it has stays to the byte, and only what is new is held."""

import pytest
from scripted_run import go_on, held
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.grow import SIMULATE, extend, retry
from pipelines.recipe import DEFAULT, Recipe
from pipelines.stage_table import stage_named
from usersim import simulate
from usersim.errors import InputError
from usersim.files import file_hash, read_conversations, read_rows


def shards(run):
    return {p.name: file_hash(p) for p in sorted(run.conversations.glob("part-*.parquet"))}


def ids(run):
    return [c.id for p in sorted(run.conversations.glob("*")) for c in read_conversations(p)]


@pytest.fixture
def asked(monkeypatch):
    """How many engines were opened."""
    opened = []
    real = simulate.open_engine

    def open_engine(spec):
        engine = real(spec)
        opened.append(engine)
        return engine

    monkeypatch.setattr(simulate, "open_engine", open_engine)
    return opened


def test_a_run_that_grows_keeps_its_conversations_and_holds_only_new_ones(tmp_path, asked):
    run = held(tmp_path / "run")
    before, old, first = shards(run), ids(run), sum(e.calls for e in asked)

    extend(run, 50)
    assert not run.curated.exists()
    assert not run.corpus.exists()
    go_on(run)

    after = shards(run)
    assert before.items() <= after.items()  # the last, smaller shard too
    assert [len(read_rows(p)) for p in sorted(run.conversations.glob("*"))] == [12, 12, 6, 12, 8]
    assert ids(run)[:30] == old
    assert len(set(ids(run))) == 50
    # Every conversation takes the same number of completions here: 20 new ones, not 50.
    assert sum(e.calls for e in asked) == first + first * 20 // 30
    metrics = run.metrics()
    assert metrics["simulate"]["planned"] == 50
    assert metrics["curate"]["in"] == 50
    assert metrics["corpus"]["conversations"] == metrics["curate"]["kept"]


def test_the_ids_are_those_of_a_run_that_had_the_size_from_the_start(tmp_path):
    grown = held(tmp_path / "grown", conversations=10)
    extend(grown, 23)
    extend(grown, 31)
    go_on(grown)
    assert ids(grown) == ids(held(tmp_path / "whole", conversations=31, shard_size=7))


def test_a_run_may_grow_before_it_is_finished_and_be_asked_twice(tmp_path):
    run = held(tmp_path / "run")
    extend(run, 40)
    before = run.recipe_file.read_bytes()
    extend(run, 40)
    assert run.recipe_file.read_bytes() == before
    go_on(run)
    extend(run, 40)
    assert run.is_done(stage_named("corpus"), Recipe.load(run.recipe_file))
    assert len(ids(run)) == 40


def test_stopped_anywhere_while_it_grows_the_run_goes_on(tmp_path, monkeypatch):
    for step in ("reopen", "adopt"):
        run = held(tmp_path / step)
        calls = []
        real = getattr(type(run), step)

        def dying(self, *args, real=real, calls=calls):
            calls.append(args)
            if len(calls) == (1 if real.__name__ == "reopen" else 2):
                raise KeyboardInterrupt
            real(self, *args)

        with monkeypatch.context() as patched:
            patched.setattr(type(run), step, dying)
            with pytest.raises(KeyboardInterrupt):
                extend(run, 40)
        go_on(run)
        assert len(ids(run)) == 30
        extend(run, 40)
        go_on(run)
        assert len(set(ids(run))) == 40


def test_what_would_change_the_conversations_there_is_refused(tmp_path):
    run = held(tmp_path / "run")
    with pytest.raises(InputError, match="30 conversations already"):
        extend(run, 29)
    with pytest.raises(InputError, match=r"simulate\.max_rounds: 4 -> 2"):
        extend(run, 40, ["simulate.max_rounds=2"])
    with pytest.raises(InputError, match=r"leave out simulate\.shard_size=5$"):
        extend(run, 40, ["simulate.shard_size=5"])
    with pytest.raises(InputError, match=r"--extend 37 .* leave out simulate\.conversations=80$"):
        extend(run, 37, ["simulate.conversations=80"])
    with pytest.raises(InputError, match="no run yet"):
        extend(type(run)(tmp_path / "none"), 40)
    assert run.is_done(stage_named("corpus"), Recipe.load(run.recipe_file))


def test_a_reopened_run_is_nobody_elses(tmp_path):
    """Whoever is killed between asking for more and holding it leaves a folder that is his."""
    for conversations in (30, 33):
        run = held(tmp_path / str(conversations), shard_size=40)
        if conversations == 30:
            assert retry(run, "user_ended") == 30
        else:
            extend(run, conversations, ["simulate.concurrency=3"])
        own = Recipe.load(run.recipe_file)
        assert own.simulate.conversations == conversations
        for override in ("simulate.max_rounds=2", "simulate.shard_size=7"):
            with pytest.raises(InputError, match="made with another recipe"):
                run.adopt(Recipe.load(run.recipe_file, [override]))
        assert Recipe.load(run.recipe_file) == own
        go_on(run)
        assert len(set(ids(run))) == conversations


def test_the_command_grows_a_run(tmp_path):
    run = held(tmp_path / "run")
    command = ["simulate", "--run", str(run.root), "--extend", "33", "simulate.concurrency=3"]
    for _ in range(2):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    assert "already done" in done.output
    assert len(ids(run)) == 33
    assert Recipe.load(run.recipe_file).simulate.concurrency == 3
    done = CliRunner().invoke(app, [*command, "simulate.shard_size=5"])
    assert (done.exit_code, "leave out" in done.output) == (2, True)
    assert run.is_done(SIMULATE, Recipe.load(run.recipe_file))


@pytest.mark.parametrize(
    "override",
    [
        "simulate.conversations=9",
        "simulate.shard_size=9",
        "simulate.concurrency=9",
        "simulate.transient_retries=9",
        "engines.user.replicas=2",
        "engines.assistant.timeout_s=9",
        "engines.assistant.url=http://elsewhere:8000/v1",
        "name=other",
    ],
)
def test_identity_knows_nothing_of_how_many_or_how_fast(override):
    assert Recipe.load(DEFAULT).identity(SIMULATE) == Recipe.load(DEFAULT, [override]).identity(
        SIMULATE
    )


@pytest.mark.parametrize(
    "override",
    ["simulate.max_rounds=9", "seed=8", "models.assistant=other", "engines.user.dtype=float32"],
)
def test_identity_knows_everything_else(override):
    assert Recipe.load(DEFAULT).identity(SIMULATE) != Recipe.load(DEFAULT, [override]).identity(
        SIMULATE
    )


def test_a_run_goes_on_at_another_pace(tmp_path):
    run = held(tmp_path / "run")
    recipe = Recipe.load(run.recipe_file, ["simulate.concurrency=1"])
    run.adopt(recipe)
    assert run.is_done(SIMULATE, recipe)
