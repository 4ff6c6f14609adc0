"""Failed conversations are held again under other seeds; the others stay as they are."""

import json
import sqlite3

import pytest
from scripted_run import go_on, held
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.grow import retry
from pipelines.recipe import Recipe
from pipelines.stage_table import stage_named
from pipelines.verify import verify
from usersim.engines.scripted import ScriptedEngine, talkative
from usersim.errors import DeterministicError, InputError
from usersim.files import read_conversations, read_rows


@pytest.fixture
def flaky(monkeypatch):
    """Speakers who now and then fail, by the sampling seed, until they are mended."""
    state = {"broken": True}

    def open_engine(spec):
        engine = talkative(2 if spec.opens == "user" else None)

        def script(messages, sampling):
            if state["broken"] and sampling.seed % 9 == 0:
                raise DeterministicError("scripted: refused", reason="engine_refused")
            return engine._script(messages, sampling)

        return ScriptedEngine(script)

    monkeypatch.setattr("usersim.simulate.open_engine", open_engine)
    return state


def rows(run):
    paths = sorted(run.conversations.glob("*.parquet"))
    return {c.id: c for p in paths for c in read_conversations(p)}


def refused(run):
    return {row["id"] for row in read_rows(run.rejected / "simulate.parquet")}


def problems(run):
    return [problem for check in verify(run.root) for problem in check.problems]


def test_failed_conversations_are_held_again_and_no_others(tmp_path, flaky):
    run = held(tmp_path / "run", max_error_rate=1.0)
    before, rejected = rows(run), refused(run)
    failed = {key for key, row in before.items() if row.stop_reason == "error"}
    assert failed
    assert rejected

    flaky["broken"] = False
    assert retry(run, "error") == len(failed | rejected)
    go_on(run)

    after = rows(run)
    assert after.keys() == before.keys() | rejected
    assert not refused(run)
    assert {c.stop_reason for c in after.values()} == {"user_ended"}
    for key in before.keys() - failed:
        assert after[key] == before[key]
    for key in failed:  # other seeds: a guard's refusals would not simply come again
        assert after[key].opener != before[key].opener
    assert problems(run) == []


def test_what_was_said_before_is_kept_in_the_journal(tmp_path, flaky):
    run = held(tmp_path / "run", max_error_rate=1.0)
    number = retry(run, "engine_refused")
    found = []
    for path in run.journal.glob("*.sqlite"):
        with sqlite3.connect(path) as db:
            found += [json.loads(row[0]) for row in db.execute("SELECT record FROM retired")]
    assert len(found) == number
    assert {record["ending"]["reason"] for record in found} == {"engine_refused"}
    assert any(record["attempts"] for record in found)


def test_what_was_put_aside_was_paid_for_and_is_told(tmp_path, flaky):
    run = held(tmp_path / "run", max_error_rate=1.0)
    before = run.metrics()["simulate"]
    assert "usage_put_aside" not in before
    retry(run, "error")
    spoken = []
    for path in run.journal.glob("*.sqlite"):
        with sqlite3.connect(path) as db:
            for (record,) in db.execute("SELECT record FROM retired"):
                spoken += json.loads(record)["attempts"]
    go_on(run)  # some fail again under their other seeds
    retry(run, "error")
    flaky["broken"] = False
    go_on(run)
    told = run.metrics()["simulate"]["usage_put_aside"]
    for role, usage in told.items():
        for kind in ("prompt", "completion"):
            once = sum(each[f"{kind}_tokens"] for each in spoken if each["role"] == role)
            assert usage[kind] > once > 0
    assert problems(run) == []


def test_stopped_on_the_way_it_goes_on(tmp_path, flaky, monkeypatch):
    run = held(tmp_path / "run", max_error_rate=1.0)
    planned = rows(run).keys() | refused(run)
    from usersim.journal import Journal

    real, calls = Journal.retire, []

    def dying(self, conversations):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, conversations)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "retire", dying)
        with pytest.raises(KeyboardInterrupt):
            retry(run, "error")
    flaky["broken"] = False
    assert retry(run, "error") > 0
    go_on(run)
    assert retry_is_over(run)
    assert rows(run).keys() == planned
    assert problems(run) == []


def retry_is_over(run):
    with pytest.raises(InputError, match="the reasons there are: user_ended 30"):
        retry(run, "error")
    return run.is_done(stage_named("simulate"), Recipe.load(run.recipe_file))


def test_a_misspelt_reason_does_not_set_an_unfinished_run_going(tmp_path):
    run = held(tmp_path / "run")
    mark = run.root / "stages" / "simulate.json"
    mark.write_text(mark.read_text().replace('"done"', '"begun"'))
    with pytest.raises(InputError, match="the reasons there are: user_ended 30"):
        retry(run, "eror")


def test_the_command(tmp_path):
    run = held(tmp_path / "run")
    done = CliRunner().invoke(app, ["retry", str(run.root), "--reason", "error"])
    assert done.exit_code == 2
    assert "no conversation of" in done.output
    done = CliRunner().invoke(app, ["retry", str(run.root), "--reason", "user_ended"])
    assert done.exit_code == 0, done.output
    assert "30 conversations are held again" in done.output
    with pytest.raises(InputError, match="no run yet"):
        retry(type(run)(tmp_path / "none"), "error")
