"""Stage `simulate` on a Ray cluster: `python -m ray_jobs.generate --recipe R --run RUN`.

The run folder, the ids and the files are those of `realchat simulate`; only the place differs.
Either command goes on with what the other began.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import typer

from pipelines.cli import Debug, Options, Overrides, RecipePath, RunPath, guarded, say
from pipelines.forecast import gpus_of as devices_of
from pipelines.publish_options import asked
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_process import quieten
from pipelines.stage_table import stage_named
from pipelines.stages import check_ready, perform, simulation
from ray_jobs.cluster import connected, run_of, sign_in
from ray_jobs.fleet import Fleet, Placement
from ray_jobs.preparing import gpus_of, prepare
from ray_jobs.program import program
from ray_jobs.store import Store
from ray_jobs.worker import Simulation
from usersim.errors import InputError
from usersim.journal import sole_owner
from usersim.progress import track
from usersim.simulate import Engines, about_engines

SIMULATE = stage_named("simulate")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """What the job can be asked."""

    overrides: Overrides = None
    recipe: RecipePath = None
    run: RunPath = None
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Workers; those that find no room wait for the cluster to grow. [default: one for"
            " the GPUs of each, and one more that waits for the next; else one]",
        ),
    ] = None
    cpus_per_actor: Annotated[float, typer.Option(min=0.0, help="CPUs of a worker.")] = 1.0
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="GPUs of a worker, asked for also where there are none yet. [default: as many as"
            " its models are spread over; 0 for endpoints, scripts, or vLLM built for CPUs]",
        ),
    ] = None
    store: Annotated[
        str,
        typer.Option(metavar="URI", help="Copy what the manifest lists there, as s3://bucket/run."),
    ] = ""
    debug: Debug = False


@guarded
@asked
def generate(options: GenerateOptions) -> None:
    """Hold the conversations of a run on a Ray cluster; every node must see the run folder."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("ray_jobs").setLevel(logging.INFO)
    quieten()
    found, folder = run_of(Options(options.recipe, options.run), options.overrides)
    store = Store(options.store) if options.store else None
    if store:
        store.check()  # a mistyped one, or a missing key, before workers have anything to copy
    gpus = _gpus_of_each(found, options.gpus_per_actor)
    asked_for = (options.actors, options.cpus_per_actor, gpus)
    # A folder alone may be mistyped; who names a recipe wants all that it takes.
    prepares = options.recipe is not None
    carry_out(found, folder, partial(placed, *asked_for), store, prepares)
    typer.echo(folder.conversations)


def _gpus_of_each(recipe: Recipe, wanted: float | None) -> float:
    """GPUs of a worker. Raises InputError for what Ray or the recipe's engines cannot have."""
    if wanted is None:
        return gpus_of(recipe)
    if wanted > 1 and not wanted.is_integer():
        raise InputError(f"--gpus-per-actor {wanted:g}: Ray gives a part of one GPU, or whole ones")
    if 0 < wanted < (spread := devices_of(recipe)) and spread > 1:
        raise InputError(
            f"--gpus-per-actor {wanted:g}: engines.*.tensor_parallel spreads a model over {spread}"
        )
    return wanted


def carry_out(
    recipe: Recipe,
    run: RunFolder,
    placement: Callable[[], Placement],
    store: Store | None = None,
    prepares: bool = False,
) -> None:
    """Do the stage in its run folder, unless it is done; `placement` may ask the cluster.

    `prepares`: do what it needs first, where that is missing. Raises what `simulate_on_ray`,
    `store` and the stages before raise.
    """
    if not run.exists and not prepares:
        check_ready(SIMULATE, recipe, run)  # before anything is made in a mistyped folder
    with run.locked():
        run.adopt(recipe)
        if run.is_done(SIMULATE, recipe):
            say("simulate: already done")
        else:
            uri = store.uri if store else ""
            with connected():
                if prepares:
                    prepare(recipe, run, SIMULATE, placement().gpus)
                perform(SIMULATE, recipe, run, partial(_work, placement=placement(), store=uri))
        run.write_metrics()  # a kill between a stage's mark and its figures is mended here
        run.write_manifest(recipe)
        if store:
            store.publish(run.root, run.manifest_file)


def _work(recipe: Recipe, run: RunFolder, placement: Placement, store: str) -> dict[str, Any]:
    return simulate_on_ray(Simulation(*simulation(recipe, run), store), placement)


def simulate_on_ray(simulation: Simulation, placement: Placement) -> dict[str, Any]:
    """`usersim.simulate.simulate`, with the engines in Ray actors; returns the run's figures.

    Raises WorldError when stopped or out of workers (the same call resumes), InputError when the
    folder belongs to another recipe.
    """
    return asyncio.run(_simulate(simulation, placement))


async def _simulate(simulation: Simulation, placement: Placement) -> dict[str, Any]:
    journals = simulation.run / "journal"
    with sole_owner(journals), sign_in(journals) as sign:
        simulation = replace(simulation, sign=sign)
        books = simulation.books()
        try:
            if missing := books.publish_finished():
                planned = simulation.settings.conversations
                with track("simulate", planned, "conversations", books.ended) as bar:
                    await Fleet(simulation, placement, books, bar).hold_all(missing)
            figures = books.close_run()
            engines: Engines = {"user": simulation.user, "assistant": simulation.assistant}
            return figures | about_engines(engines, figures)
        finally:
            books.close()


def placed(actors: int | None, cpus: float, gpus: float) -> Placement:
    """The placement that was asked for; without a number of workers the cluster's GPUs decide."""
    asked_for = Placement(actors or 1, cpus, gpus, grows=actors is None)
    return asked_for if actors else replace(asked_for, actors=max(1, asked_for.room()))


if __name__ == "__main__":
    program(generate)
