"""The verbs of characters: what they print, what they refuse, what they would start."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.character_verbs import server_command
from pipelines.cli import app
from usersim.errors import InputError


def ran(*arguments):
    return CliRunner().invoke(app, ["characters", *map(str, arguments)])


def character(folder, base="smol", rank=12):
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "realchat.json").write_text(json.dumps({"base": base, "character": "Ann"}))
    return folder


def test_a_story_is_shown_with_its_coverage_and_examples():
    done = ran("show", "joram-pell", "--scenes", "40", "--examples", "2")
    assert done.exit_code == 0, done.output
    assert done.output.count(" scenes ") == 16
    assert "Joram Pell (speaking): " in done.output
    assert "[anachronism" in done.output
    assert ran("show", "nobody").exit_code == 2


def test_one_character_is_served_merged_and_several_as_adapters_of_one_base(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    ann, bob = (character(tmp_path / name, str(base)) for name in ("ann", "bob"))
    alone = server_command([ann], "127.0.0.1", 8000)
    assert alone[:3] == ["vllm", "serve", str(ann)]
    assert "--enable-lora" not in alone
    both = server_command([ann, bob], "127.0.0.1", 8000)
    assert both[2] == str(base)
    assert both[-2:] == [f"ann={ann}/adapter", f"bob={bob}/adapter"]
    assert both[both.index("--max-lora-rank") + 1] == "16"
    assert both[both.index("--max-loras") + 1] == "2"
    shown = ran("serve", ann, bob, "--dry-run")
    assert shown.output.split() == both


def test_characters_that_cannot_share_a_server_are_refused(tmp_path):
    ann, bob = character(tmp_path / "ann", "one"), character(tmp_path / "bob", "two")
    with pytest.raises(InputError, match="one base"):
        server_command([ann, bob], "127.0.0.1", 8000)
    with pytest.raises(InputError, match="one merged model"):
        server_command([ann, bob], "127.0.0.1", 8000, merged=True)
    with pytest.raises(InputError, match="one name"):
        server_command([ann, character(tmp_path / "x" / "ann", "one")], "127.0.0.1", 8000)
    assert ran("serve", tmp_path).exit_code == 2
    assert ran("chat", tmp_path).exit_code == 2


def test_an_import_lists_what_it_leaves_out(tmp_path):
    rows = [{"type": "chat", "location": "x", "background": "."}, {"prompt": "p", "output": "o"}]
    said = [{"role": r, "action": "speaking", "content": "Yes."} for r in ("A", "B", "A")]
    rows.append({"setting": [], "background": "Two talk.", "dialogue": said})
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out" / "mine.jsonl"
    done = ran("import", tmp_path / "data.jsonl", "--out", out)
    assert done.exit_code == 0, done.output
    assert len(out.read_text().splitlines()) == 1
    assert out.with_suffix(".rejected.parquet").is_file()
    assert "empty_background" in done.output


def test_a_misspelt_setting_of_training_is_told_before_anything_starts(tmp_path):
    done = ran("train", "joram-pell", "--out", tmp_path / "m", "training.lora_rnak=8")
    assert done.exit_code == 2
    assert "lora_rank" in done.output
    assert not Path(tmp_path / "m").exists()


@pytest.mark.parametrize("recipe", ["characters-demo", "characters-ablation"])
def test_the_shipped_recipes_are_right_and_name_their_stages(recipe):
    from pipelines.recipe import Recipe

    stages = Recipe.load(Path(recipe)).stages
    assert stages.index("train_character") < stages.index("interview")
    assert "interview" not in Recipe.load(Path("demo")).stages
