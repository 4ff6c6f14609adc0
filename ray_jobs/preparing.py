"""What must be done before conversations are held, done by the cluster's own processes."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cli import say
from pipelines.machine import package_version, providers
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import Stage
from pipelines.stages import WORK, check_ready, perform
from ray_jobs.curate import RayTasks
from ray_jobs.training import Processes, on_nodes

PREPARED = ("ingest", "train_user", "learn_likeness")


def prepare(recipe: Recipe, run: RunFolder, stage: Stage, gpus: float) -> None:
    """Do what `stage` needs of PREPARED, as far as it is missing.

    `gpus` is how many a process takes that asks engines. Where it takes any, training takes GPUs
    too, and waits for the first of a cluster that has none yet; else it takes GPUs where there are
    some. Raises InputError when another stage is missing, and what the stages raise.
    """
    import ray

    missing = [needed for needed in recipe.after(stage) if not run.is_done(needed, recipe)]
    if any(needed.name not in PREPARED for needed in missing):
        check_ready(stage, recipe, run)
    for needed in missing:
        prepare(recipe, run, needed, gpus)
        say(f"{needed.verb}: {needed.title}")
        if needed.trains:
            on_gpus = gpus > 0 or ray.cluster_resources().get("GPU", 0) > 0
            work = partial(on_nodes, each=Processes(cpu_only=not on_gpus, waits=gpus > 0))
        else:
            work = partial(in_a_task, gpus=gpus if needed.asks else 0.0)
        perform(needed, recipe, run, partial(work, stage=needed))


def gpus_of(recipe: Recipe) -> float:
    """How many GPUs a process takes that opens the recipe's engines.

    None for endpoints and scripts. What vLLM takes is told by its build, which is the same on every
    node, and not by the GPUs that are there: a cluster that grows may have none yet.
    """
    engines = recipe.engines.user, recipe.engines.assistant
    devices = [engine.tensor_parallel for engine in engines if engine.kind == "vllm"]
    builds = {f"{name} {package_version(name)}" for name in providers("vllm")}
    for_gpus = any("cpu" not in build for build in builds)
    return float(max(devices, default=0)) if for_gpus else 0.0


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
