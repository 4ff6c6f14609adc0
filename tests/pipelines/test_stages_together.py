"""The whole path in seconds: real training of a tiny model, scripted engines, every stage."""

import json

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.stage_table import ORDINARY
from usersim.files import read_conversations, read_rows

RECIPE = """
name: tiny
models: {{user: {model}, assistant: {model}, student: {model}}}
ingest: {{source: {people}, language: null, dev: 4, test: 8}}
train_user: &training
  {{train_tokens: 2000, eval_conversations: 4, batch_rows: 2,
    view: {{window: 512, target_limit: 48, context_limit: 32}}}}
engines:
  user: {{kind: scripted, model: talkative, opens: user}}
  assistant: {{kind: scripted, model: talkative}}
simulate: {{conversations: 30}}
curate: {{filters: {{languages: []}}}}
train_assistant: *training
"""


def talk(number: int) -> dict:
    words = [f"{letter}{number * 7 % 31}" for letter in "abcdefgh"]
    return {
        "id": f"talk{number}_0",
        "conversations": [
            {"from": "human", "value": f"what is {' '.join(words)}"},
            {"from": "gpt", "value": f"It is {' or '.join(reversed(words))} and {number}."},
            {"from": "human", "value": f"and {number} times {words[number % 8]}"},
            {"from": "gpt", "value": f"That makes {number * number}."},
        ],
    }


@pytest.mark.slow
def test_the_whole_path_leaves_everything_and_is_not_done_twice(
    tmp_path, tiny_checkpoint, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    people = tmp_path / "people.json"
    people.write_text(json.dumps([talk(i) for i in range(80)]))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(model=tiny_checkpoint, people=people))
    command = ["run", "--recipe", str(recipe)]

    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    run = tmp_path / "runs" / "tiny"
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["timing"]) == {f"{name}_s" for name in ORDINARY}
    assert metrics["user_model"]["perplexity"]["before"] > 1
    assert metrics["assistant"]["loss"]["real"]["difference"].keys() >= {"mean", "low", "high"}
    for path in ["manifest.json", "report.html", "corpus/README.md", "models/user/realchat.json"]:
        assert (run / path).is_file()

    made = [c for p in (run / "conversations").glob("*.parquet") for c in read_conversations(p)]
    kept = [c for p in (run / "curated").glob("part-*.parquet") for c in read_conversations(p)]
    rejected = read_rows(run / "rejected" / "curate.parquet")
    published = [r for p in (run / "corpus" / "data").glob("*.parquet") for r in read_rows(p)]
    assert len(made) == metrics["simulate"]["conversations"]
    assert {c.id for c in made} == {c.id for c in kept} | {r["id"] for r in rejected}
    assert {c.id for c in kept} == {row["id"] for row in published}

    again = CliRunner().invoke(app, command)
    assert (again.exit_code, again.output.count("already done")) == (0, len(ORDINARY))
