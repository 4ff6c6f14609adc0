"""A shard's figures stand beside its rows, so that who closes the run reads no journal for them."""

import pytest

from usersim import books
from usersim.audit import Audit
from usersim.engines.scripted import ScriptedEngine, talkative
from usersim.errors import InputError
from usersim.files import read_conversations, read_footer, read_rows, write_conversations
from usersim.outcome import FIGURES, Lineage, ShardFigures
from usersim.plan import Agenda, SimulateSettings
from usersim.simulate import simulate

SETTINGS = SimulateSettings(conversations=30, shard_size=12, opener_attempts=1)
AGENDA = Agenda(SETTINGS, "r", 7)
OF_THE_SITTING = ("seconds", "sessions", "tokens_per_s")


def hold(run):
    """Simulate; every third opener or so is refused for good, and its conversation rejected."""
    talks = talkative(rounds=2)
    user = ScriptedEngine(
        lambda m, s: "" if not m and s.seed % 3 == 0 else talks._script(m, s), "user"
    )
    figures = simulate(SETTINGS, user, talkative(model="assistant"), run, "r", 7)
    return {key: value for key, value in figures.items() if key not in OF_THE_SITTING}


def problems(run):
    audit = Audit(AGENDA, Lineage(SETTINGS, "r", "user", "assistant"), run)
    return [problem for check in audit.checks() for problem in check.problems]


def without_footer(path):
    """The data file as earlier versions wrote it."""
    write_conversations(path, read_conversations(path))


def test_only_rejected_conversations_are_read_again_from_the_journals(tmp_path, monkeypatch):
    asked, read = [], books.records

    def noted(journal, only=None):
        asked.append(only)
        return read(journal, only)

    first = hold(tmp_path)
    rows = read_rows(tmp_path / "rejected" / "simulate.parquet")
    monkeypatch.setattr(books, "records", noted)
    assert hold(tmp_path) == first  # nothing is held: the run is closed once more
    assert all(asked)
    assert sum(map(len, asked)) == first["rejected"] > 0
    assert read_rows(tmp_path / "rejected" / "simulate.parquet") == rows


def test_shards_without_rejected_conversations_are_closed_without_a_journal(tmp_path, monkeypatch):
    for shard in AGENDA.shards():
        figures = ShardFigures()
        figures.tally.counts.update({"published": shard.size, "rounds/2": shard.size})
        footer = {FIGURES: figures.to_json()}
        write_conversations(shard.data(tmp_path), [], lambda footer=footer: footer)
    closing = books.Books(AGENDA, Lineage(SETTINGS, "r", "user", "assistant"), tmp_path)
    monkeypatch.setattr(books, "Journal", None)
    told = closing.close_run()
    assert (told["planned"], told["rejected"], told["rounds"]) == (30, 0, {"2": 30})


def test_a_shard_of_an_earlier_version_is_counted_from_its_journal(tmp_path):
    first = hold(tmp_path)
    without_footer(AGENDA.shards()[1].data(tmp_path))
    assert hold(tmp_path) == first
    assert problems(tmp_path) == []


def test_a_lost_conversation_leaves_no_file_of_rejected_rows(tmp_path):
    hold(tmp_path)
    (tmp_path / "rejected" / "simulate.parquet").unlink()
    path = AGENDA.shards()[0].data(tmp_path)
    footer = {FIGURES: ShardFigures().to_json()}
    write_conversations(path, read_conversations(path), lambda: footer)
    with pytest.raises(AssertionError, match="a conversation was lost"):
        hold(tmp_path)
    assert list((tmp_path / "rejected").iterdir()) == []
    assert any("footer" in problem for problem in problems(tmp_path))


def test_figures_come_back_as_they_were_written(tmp_path):
    hold(tmp_path)
    told = read_footer(AGENDA.shards()[0].data(tmp_path), FIGURES)
    assert told is not None
    assert ShardFigures.from_json(told).to_json() == told
    assert ShardFigures.from_json(told).tally.ended == 12


@pytest.mark.parametrize("shared", [False, True])
def test_whole_shards_of_another_recipe_are_refused(tmp_path, shared):
    settings = SimulateSettings(conversations=6, shard_size=3, concurrency=2, max_rounds=1)
    simulate(settings, talkative(1), talkative(), tmp_path, "another", 7)
    lineage = Lineage(settings, "mine", "u", "a")
    kept = books.Books(Agenda(settings, "mine", 7), lineage, tmp_path, shared)
    with pytest.raises(InputError, match="belongs to another run"):
        kept.publish_finished()
    kept.close()
