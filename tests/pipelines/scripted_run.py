"""A run whose speakers follow a script: simulated, curated, built in this process."""

from pathlib import Path

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import stage_named
from pipelines.stages import perform

STAGES = ("simulate", "curate", "corpus")


def recipe_of(name: str, curate: dict | None = None, **simulate) -> Recipe:
    """Two talkative speakers, 30 conversations in shards of 12 unless told otherwise."""
    talkative = {"kind": "scripted", "model": "talkative"}
    return Recipe.checked(
        {
            "name": name,
            "stages": list(STAGES),
            "engines": {"user": talkative | {"opens": "user"}, "assistant": talkative},
            "simulate": {"conversations": 30, "shard_size": 12, "concurrency": 8, **simulate},
            "curate": {"filters": {"languages": []}, **(curate or {})},
        },
        "test",
    )


def held(root: Path, curate: dict | None = None, **simulate) -> RunFolder:
    """The run, with everything done that its recipe names."""
    run = RunFolder(root)
    recipe = recipe_of(root.name, curate, **simulate)
    with run.locked():
        run.adopt(recipe)
    go_on(run)
    return run


def go_on(run: RunFolder) -> None:
    """Do what is not done yet, as `realchat run` would."""
    recipe = Recipe.load(run.recipe_file)
    with run.locked():
        run.adopt(recipe)
        for stage in map(stage_named, STAGES):
            if not run.is_done(stage, recipe):
                perform(stage, recipe, run)
        run.write_manifest(recipe)
