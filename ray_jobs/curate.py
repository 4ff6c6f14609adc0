"""Stage `curate` on a Ray cluster: `python -m ray_jobs.curate --recipe R --run RUN`.

The rows, verdicts and kept ids are those of `realchat curate`: the same pieces of work (a shard to
judge, a band to pair, pairs to verify) are done by Ray tasks instead of processes. A task reads and
leaves files of the run folder, which every node must see, so a task whose worker dies is done again
elsewhere. Bands are not shuffled: each band's task reads its own columns of the memory-mapped
signatures, and only pairs travel.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from pipelines.cli import Debug, Options, Overrides, RecipePath, RunPath, guarded, say
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.spread import Result, Task
from pipelines.stage_process import quieten
from pipelines.stage_table import stage_named
from pipelines.stages import check_ready, curation, perform, simulated_rates
from ray_jobs.cluster import connected, run_of
from ray_jobs.program import program
from usersim.errors import WorldError

CURATE = stage_named("curate")
AHEAD = 4
"""Tasks in flight for each CPU: enough to keep it busy, few enough to bound what waits."""


class RayTasks:
    """A `pipelines.spread.Spread`: each task on whichever node has a CPU free, done again if lost.

    Raises WorldError when one is lost more often than `retries` times.
    """

    def __init__(self, retries: int = 5, gpus: float = 0.0) -> None:
        self.retries, self.gpus = retries, gpus

    def __call__(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """The results, in the tasks' order."""
        import ray

        remote = ray.remote(max_retries=self.retries, num_cpus=1, num_gpus=self.gpus)(_done)
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: deque[Any] = deque()
        try:
            for task in tasks:
                waiting.append(remote.remote(work, task))
                if len(waiting) >= most:
                    yield ray.get(waiting.popleft())
            while waiting:
                yield ray.get(waiting.popleft())
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise WorldError(f"Ray lost a task: {error}") from error


def _done(work: Callable[[Task], Result], task: Task) -> Result:
    return work(task)


@guarded
def curate(
    overrides: Overrides = None,
    recipe: RecipePath = None,
    run: RunPath = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a lost task is done again.")] = 5,
    debug: Debug = False,
) -> None:
    """Curate a run on a Ray cluster; every node must see the run folder."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    quieten()
    found, folder = run_of(Options(recipe, run), overrides)
    carry_out(found, folder, RayTasks(retries))
    typer.echo(folder.curated)


def carry_out(recipe: Recipe, run: RunFolder, spread: RayTasks) -> None:
    """Do the stage in its run folder, unless it is done.

    Raises InputError without conversations, WorldError when the cluster or the disk fails.
    """
    check_ready(CURATE, recipe, run)
    with run.locked():
        run.adopt(recipe)
        if run.is_done(CURATE, recipe):
            say("curate: already done")
        else:
            with connected():
                perform(CURATE, recipe, run, partial(_work, spread=spread))
        run.write_metrics()  # a kill between a stage's mark and its figures is mended here
        run.write_manifest(recipe)


def _work(recipe: Recipe, run: RunFolder, spread: RayTasks) -> dict[str, Any]:
    return curation(recipe, run).carry_out(simulated_rates(run), spread)


if __name__ == "__main__":
    program(curate)
