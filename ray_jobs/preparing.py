"""What must be done before conversations are held, done by the cluster's own processes."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cli import say
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import Stage
from pipelines.stages import WORK, check_ready, perform
from ray_jobs.curate import RayTasks
from ray_jobs.training import Processes, on_nodes

PREPARED = ("ingest", "train_user", "learn_likeness")


def prepare(recipe: Recipe, run: RunFolder, stage: Stage) -> None:
    """Do what `stage` needs of PREPARED, as far as it is missing.

    Training takes GPUs where the cluster has any, and so does what asks an engine. Raises
    InputError when another stage is missing, and what the stages raise.
    """
    import ray

    missing = [needed for needed in recipe.after(stage) if not run.is_done(needed, recipe)]
    if any(needed.name not in PREPARED for needed in missing):
        check_ready(stage, recipe, run)
    for needed in missing:
        prepare(recipe, run, needed)
        say(f"{needed.verb}: {needed.title}")
        each = Processes(cpu_only=not ray.cluster_resources().get("GPU"))
        if needed.trains:
            work = partial(on_nodes, each=each)
        else:
            gpus = 0.0 if each.cpu_only else gpus_of(needed, recipe)
            work = partial(in_a_task, gpus=gpus)
        perform(needed, recipe, run, partial(work, stage=needed))


def gpus_of(stage: Stage, recipe: Recipe) -> float:
    """How many GPUs a stage takes that trains nothing: where it asks engines, as a worker does."""
    engines = recipe.engines.user, recipe.engines.assistant
    return float(max(engine.tensor_parallel for engine in engines)) if stage.asks else 0.0


def in_a_task(recipe: Recipe, run: RunFolder, stage: Stage, gpus: float) -> dict[str, Any]:
    """The stage's figures, made by a process on whichever node has a CPU, and those GPUs, free."""
    (figures,) = RayTasks(gpus=gpus)(_stage_there, [(stage.name, recipe.to_table(), str(run.root))])
    return figures


def _stage_there(given: tuple[str, dict[str, Any], str]) -> dict[str, Any]:
    name, recipe, run = given
    folder = RunFolder(Path(run))
    with tempfile.TemporaryDirectory() as own:
        # A journal of this process alone, which SQLite cannot keep in a folder of several machines.
        folder.rehearsal = Path(own) / "rehearsal"
        return WORK[name](Recipe.checked(recipe, "recipe"), folder)
