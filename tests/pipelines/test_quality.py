"""A quality model is trained from a run, and curation drops by it when the recipe says so."""

import pytest
from made_run import talks
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.curate import curate
from pipelines.curate_settings import CurateSettings
from pipelines.quality import train_quality
from usersim.conversation import Conversation, Message, Rejection
from usersim.errors import InputError
from usersim.files import read_json, read_rows, write_conversations, write_rejections


def robot(number):
    turns = (Message("user", f"As requested, kindly elaborate upon item {number} comprehensively."),
             Message("assistant", f"Item {number} is a {number}."))  # fmt: skip
    return Conversation(id=f"robot-{number}", messages=turns, source="realchat")


@pytest.fixture
def run(tmp_path):
    people = talks("people", 200, 2)
    write_conversations(tmp_path / "people" / "train.parquet", people)
    made = [*map(robot, range(150)), *talks("simulated", 20, 1, source="realchat")]
    write_conversations(tmp_path / "conversations" / "part-00000.parquet", made)
    return tmp_path


def test_the_model_of_users_rejects_what_nobody_types(run):
    model = run / "users.bin"
    done = CliRunner().invoke(app, ["train-quality", str(run), "--out", str(model)])
    assert done.exit_code == 0, done.output
    assert read_json(run / "users.json")["auc"] > 0.9
    chosen = CurateSettings(
        models={"quality": str(model)}, filters={"min_quality": 0.5}, dedup={"opener_threshold": 1}
    )
    figures = curate(chosen, run / "conversations", run / "curated", run / "rejected.parquet")
    gone = {
        row["id"] for row in read_rows(run / "rejected.parquet") if row["reason"] == "low_quality"
    }
    assert figures["reasons"]["low_quality"] >= 140
    assert sum(name.startswith("robot") for name in gone) >= 140
    assert figures["quality_model"] == "users.bin"


def test_the_model_of_answers_learns_from_what_was_rejected(run):
    write_conversations(run / "curated" / "part-00000.parquet", list(map(robot, range(120))))
    bad = [Rejection.of(c, "filters", "refusal") for c in talks("rejected", 300, 3)]
    twice = [Rejection.of(robot(i), "near-duplicates", "same_opener") for i in range(5)]
    spoilt = '{"messages": [null, {"role": "assistant", "content": null}]}'
    none = [Rejection("x", "filters", "malformed_message", "", spoilt)]
    write_rejections(run / "rejected" / "curate.parquet", bad + twice + none)
    with pytest.raises(InputError, match="different texts of the rarer kind"):
        train_quality(run, "answers", run / "answers.bin")  # four different answers
    with pytest.raises(InputError, match="one of users, answers"):
        train_quality(run, "everything", run / "x.bin")


def test_a_toxicity_model_drops_by_its_worst_turn(run):
    from usersim.text_scorer import train_scorer

    train_scorer([f"kind words {i}" for i in range(120)],
                 [f"vile grumble {i}" for i in range(120)], run / "tox.bin")  # fmt: skip
    chosen = CurateSettings(models={"toxicity": str(run / "tox.bin"), "toxicity_label": "bad"})
    vile = Conversation(id="vile", messages=(Message("user", "what does a plumber do all day"),
                        Message("assistant", "vile grumble vile grumble")))  # fmt: skip
    write_conversations(run / "conversations" / "part-00000.parquet", [vile])
    figures = curate(chosen, run / "conversations", run / "curated", run / "rejected.parquet")
    assert figures["reasons"] == {"toxic": 1}
