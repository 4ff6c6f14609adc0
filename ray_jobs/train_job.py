"""The command behind `ray_jobs.train_user` and `ray_jobs.train_assistant`."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from pipelines.cli import Debug, Options, Overrides, RecipePath, RunPath, say
from pipelines.stage_process import quieten
from pipelines.stage_table import stage_named
from pipelines.stages import check_ready, perform
from ray_jobs.cluster import connected, run_of
from ray_jobs.preparing import gpus_of, prepare
from ray_jobs.training import Processes, on_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What a training job can be asked."""

    overrides: Overrides = None
    recipe: RecipePath = None
    run: RunPath = None
    cpu_only: Annotated[
        bool, typer.Option("--cpu-only", help="Train on CPUs, on nodes that have no GPU.")
    ] = False
    cpus: Annotated[float, typer.Option(min=0.5, help="CPUs of each process.")] = 1.0
    debug: Debug = False


def train(name: str, options: TrainOptions) -> None:
    """Do a training stage in its run folder on the cluster, unless it is done."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    quieten()
    stage = stage_named(name)
    recipe, run = run_of(Options(options.recipe, options.run), options.overrides)
    prepares = options.recipe is not None  # a folder alone may be mistyped
    if not run.exists and not prepares:
        check_ready(stage, recipe, run)
    with run.locked():
        run.adopt(recipe)
        if run.is_done(stage, recipe):
            say(f"{stage.verb}: already done")
        else:
            if not prepares:
                check_ready(stage, recipe, run)  # before a cluster is asked for anything
            each = Processes(options.cpus, options.cpu_only)
            with connected():
                if prepares:
                    prepare(recipe, run, stage, 0.0 if options.cpu_only else gpus_of(recipe))
                perform(stage, recipe, run, partial(on_nodes, stage=stage, each=each))
        run.write_metrics()  # a kill between a stage's mark and its figures is mended here
        run.write_manifest(recipe)
    for output in stage.outputs:
        typer.echo(run.root / output)
