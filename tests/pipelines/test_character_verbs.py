"""The verbs of characters: what they print, what they refuse, what they would start."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assistant.characters.interviews import read_questions
from pipelines.cli import app


def ran(*arguments):
    return CliRunner().invoke(app, ["characters", *map(str, arguments)])


def test_a_story_is_shown_with_its_coverage_and_examples():
    done = ran("show", "joram-pell", "--scenes", "40", "--examples", "2")
    assert done.exit_code == 0, done.output
    assert done.output.count(" scenes ") == 16
    assert "Joram Pell (speaking): " in done.output
    assert "[anachronism" in done.output
    assert ran("show", "nobody").exit_code == 2


def test_an_import_lists_what_it_leaves_out(tmp_path):
    rows = [{"type": "chat", "location": "x", "background": "."}, {"prompt": "p", "output": "o"}]
    said = [{"role": r, "action": "speaking", "content": "Yes."} for r in ("A", "B", "A")]
    rows.append({"setting": [], "background": "Two talk.", "dialogue": said})
    rows.append({"topic_id": 1, "topic": "past", "question": "2. Where were you born?"})
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out" / "mine.jsonl"
    done = ran("import", tmp_path / "data.jsonl", "--out", out)
    assert done.exit_code == 0, done.output
    assert len(out.read_text().splitlines()) == 1
    assert out.with_suffix(".rejected.parquet").is_file()
    assert "empty_background" in done.output
    assert read_questions(tmp_path / "out" / "mine.questions.jsonl") == ["Where were you born?"]


def test_a_misspelt_setting_of_training_is_told_before_anything_starts(tmp_path):
    done = ran("train", "joram-pell", "--out", tmp_path / "m", "training.lora_rnak=8")
    assert done.exit_code == 2
    assert "lora_rank" in done.output
    assert not Path(tmp_path / "m").exists()


@pytest.mark.parametrize(
    "override",
    ["experiences.writer=engine", "writer.model=m", "life=ada-lovelace", "ablation=true"],
)
def test_what_only_a_run_follows_is_refused_and_not_passed_over(override, tmp_path):
    done = ran("train", "joram-pell", "--out", tmp_path / "m", override)
    assert done.exit_code == 2
    assert f"character.{override}" in done.output
    assert not Path(tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["mine.json", "mine", "v1.2"])
def test_an_import_writes_the_file_that_it_was_told(name, tmp_path):
    (tmp_path / "data.jsonl").write_text('{"prompt": "p", "output": "o"}')
    done = ran("import", tmp_path / "data.jsonl", "--out", tmp_path / "out" / name)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / name).is_file()


@pytest.mark.parametrize("recipe", ["characters-demo", "characters-ablation"])
def test_the_shipped_recipes_are_right_and_name_their_stages(recipe):
    from pipelines.recipe import Recipe

    stages = Recipe.load(Path(recipe)).stages
    assert stages.index("train_character") < stages.index("interview")
    assert "interview" not in Recipe.load(Path("demo")).stages
