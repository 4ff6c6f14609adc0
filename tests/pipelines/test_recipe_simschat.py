"""The shipped role-play recipe: as many scenes as conversations, of its ancestor's size."""

import json
from pathlib import Path

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from pipelines.stages import perform
from pipelines.verify import verify
from usersim.files import read_conversations
from usersim.personas.cast import cast_of

SMALL = [
    "stages=[simulate]", "simulate.cast.personas=4", "simulate.cast.scenes_each=2",
    "simulate.conversations=8", "engines.user={kind: scripted, model: talkative, opens: user}",
    "engines.assistant={kind: scripted, model: talkative}",
]  # fmt: skip


def test_it_plays_every_scene_once():
    recipe = Recipe.load(Path("simschat"))
    cast = cast_of(recipe.simulate.cast, recipe.seed)
    assert (len(cast.personas), len(cast.scenes)) == (68, 1360)
    assert recipe.simulate.conversations == len(cast.scenes)
    assert 8 * 1360 < 14_000 < 12 * 1360  # utterances of 4 to 6 rounds


def test_a_small_run_keeps_its_cast_and_proves_itself(tmp_path):
    recipe, run = Recipe.load(Path("simschat"), SMALL), RunFolder(tmp_path / "run")
    with run.locked():
        run.adopt(recipe)
        perform(stage_named("simulate"), recipe, run)
        run.write_manifest(recipe)
    rows = read_conversations(run.conversations / "part-00000.parquet")
    kept = (run.conversations / "cast" / "scenes.jsonl").read_text(encoding="utf-8")
    scenes = [json.loads(line) for line in kept.splitlines()]
    assert {row.scene_id for row in rows} == {scene["id"] for scene in scenes}
    assert [check.problems for check in verify(run.root) if check.problems] == []
