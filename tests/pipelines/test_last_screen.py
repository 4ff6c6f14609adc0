import pytest

from pipelines import last_screen as last_screen_module
from pipelines.last_screen import figures, last_screen, shortest_whole
from pipelines.run_folder import RunFolder
from usersim.conversation import Conversation, Message
from usersim.files import write_conversations, write_json

METRICS = {
    "user_model": {"perplexity": {"before": 20.0, "after": 17.0}},
    "simulate": {"conversations": 240},
    "curate": {"kept": 216, "kept_share": 0.9},
    "assistant": {"loss": {"real": {"difference": {"mean": -0.05, "low": -0.07, "high": -0.03}}}},
    "timing": {"ingest_s": 60.0, "simulate_s": 65.0},
}


def talk(identity, *texts):
    roles = ("user", "assistant") * len(texts)
    messages = tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))
    return Conversation(id=identity, messages=messages, stop_reason="user_ended")


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "run")
    write_json(run.metrics_file, METRICS)
    return run


def test_the_screen_shows_what_was_made_three_figures_a_conversation_and_what_next(run):
    talks = [talk("a", "hi", "hello"), talk("b", "why [so]?", "because", "ok", "good\nbye")]
    write_conversations(run.curated / "part-00000.parquet", talks)
    run.corpus.mkdir()
    text = last_screen(run)
    assert "a corpus of 216 conversations" in text
    assert "20.0 -> 17.0" in text
    assert "90%" in text
    assert "-0.050 nat" in text
    assert "2 min 05 s of work" in text
    for message in talks[1].messages:
        assert all(line in text for line in message.content.splitlines())
    assert all(verb in text for verb in ("dashboard ", "ingest.source=my.jsonl", "usergpt-1gpu"))


def test_figures_that_are_not_there_are_left_out(run, tmp_path):
    assert figures({}) == []
    assert len(figures(METRICS)) == 3
    assert "Figures" not in last_screen(RunFolder(tmp_path / "empty"))


def test_the_shortest_exchange_of_several_rounds_is_shown(tmp_path):
    talks = [talk("a", "x", "y"), talk("b", *"1234"), talk("c", *["long " * 9] * 4)]
    write_conversations(tmp_path / "part-00000.parquet", talks)
    assert shortest_whole(tmp_path).id == "b"
    write_conversations(tmp_path / "part-00000.parquet", talks[:1])
    assert shortest_whole(tmp_path).id == "a"
    write_conversations(tmp_path / "part-00000.parquet", [])
    assert shortest_whole(tmp_path) is None


def test_a_very_long_turn_is_cut(run):
    write_conversations(run.curated / "part-00000.parquet", [talk("a", "w" * 5000, "y")])
    assert len(last_screen(run)) < 3000


def test_shards_that_cannot_be_read_cost_the_conversation_only(run):
    run.curated.mkdir(parents=True)
    (run.curated / "part-00000.parquet").write_text("broken")
    assert "One conversation" not in last_screen(run)


def test_the_next_commands_can_be_typed_where_the_program_is_not_on_the_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(last_screen_module.sys, "argv", [str(tmp_path / ".venv/bin/realchat")])
    monkeypatch.setattr(last_screen_module.shutil, "which", lambda name: None)
    assert last_screen_module.program() == ".venv/bin/realchat"
    monkeypatch.setattr(last_screen_module.shutil, "which", lambda name: "/usr/bin/realchat")
    assert last_screen_module.program() == "realchat"


def test_a_character_is_shown_beside_its_prompted_base():
    change = {"right": {"low": 0.1, "mean": 0.25, "high": 0.4}}
    probes = {"changes": {"prompted_to_trained": {"fact": change, "boundary": change}}}
    found = figures({"interview": {"probes": probes}})
    assert len(found) == 2
    assert all(line.startswith("+25 points ") for line in found)
