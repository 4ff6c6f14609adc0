"""Training on the nodes of a Ray cluster: the same stage, the same `fit`, under Ray Train.

Ray finds places for the processes, one a GPU (or a CPU, when told so), on one node or several, and
starts all of them again when one is lost. The first does the stage as `realchat train-user` would;
wherever the stage trains a model, all of them do. The run folder must be seen by every node.
"""

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cli import say
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_process import QUIET, TRAINING_MEMORY
from pipelines.stage_table import Stage
from pipelines.stages import WORK
from usersim.errors import InputError, RealchatError, WorldError
from usersim.files import read_json, write_json
from usersim.ranks import in_a_group, useful_processes
from usersim.sft import FitSettings

# A busy or growing cluster takes longer than Ray's minute until all processes have begun.
START = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900"}
RESTARTS = 2  # of all processes, after one of them was lost
WAIT_S = 24 * 3600  # for the first process, which scores held-out people before and after


@dataclass(frozen=True, slots=True)
class Processes:
    """What each of the processes asks of the cluster."""

    cpus: float = 1.0
    cpu_only: bool = False
    waits: bool = False
    """Whether to ask for a GPU all the same where there is none yet."""

    def how_many(self, settings: FitSettings, there: dict[str, float]) -> int:
        """As many as the settings want; else one a GPU (or `cpus`), as a step's rows go round.

        `there` holds what the cluster has. Raises InputError when that is no GPU, unless it waits.
        """
        places = there.get("CPU", 0.0) / self.cpus if self.cpu_only else there.get("GPU", 0.0)
        if not (self.cpu_only or self.waits or places):
            raise InputError("no node of this cluster has a GPU: --cpu-only trains on CPUs")
        return settings.processes or useful_processes(settings, int(places))


def on_nodes(recipe: Recipe, run: RunFolder, stage: Stage, each: Processes) -> dict[str, Any]:
    """The stage's figures, made by processes on the cluster.

    Raises what the stage would, and WorldError when processes are lost too often.
    """
    import ray
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    number = each.how_many(getattr(recipe, stage.name), ray.cluster_resources())
    folder = run.logs / "ray-train"
    shutil.rmtree(folder, ignore_errors=True)  # Ray Train would go on from what it finds there
    folder.mkdir(parents=True)
    say(f"{stage.verb}: {number} processes on the cluster")
    for name, value in START.items():
        os.environ.setdefault(name, value)
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if each.cpu_only else {}
    trainer = TorchTrainer(
        _stage_there,
        train_loop_config={
            "stage": stage.name,
            "recipe": recipe.to_table(),
            "run": str(run.root),
        },
        torch_config=TorchConfig(timeout_s=WAIT_S),
        scaling_config=ScalingConfig(
            num_workers=number,
            use_gpu=not each.cpu_only,
            resources_per_worker={"CPU": each.cpus} | ({} if each.cpu_only else {"GPU": 1}),
        ),
        run_config=RunConfig(
            name=stage.name,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=RESTARTS),
            worker_runtime_env={"env_vars": TRAINING_MEMORY | QUIET | hidden},
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise WorldError(f"{stage.verb} failed on its nodes: {_in_short(error)}") from error
    told = read_json(folder / _TOLD)
    if "failed" in told:
        raise (InputError if told["exit_code"] == InputError.exit_code else WorldError)(
            told["failed"]
        )
    figures: dict[str, Any] = told["figures"]
    return figures


_TOLD = "told.json"  # what the first process leaves: figures, or why there are none


def _stage_there(given: dict[str, Any]) -> None:
    """What each process on the nodes does. A refusal is told, not raised: Ray would try again."""
    recipe, run = Recipe.checked(given["recipe"], "recipe"), RunFolder(Path(given["run"]))
    folder = run.logs / "ray-train"
    if not folder.is_dir():
        raise WorldError(f"node {os.uname().nodename} does not see {run.root}: every node must")
    told: dict[str, Any]
    try:
        told = {"figures": in_a_group(folder, partial(WORK[given["stage"]], recipe, run))}
    except RealchatError as error:
        if not _is_first():
            raise  # the first one waits for this one
        told = {"failed": str(error), "exit_code": error.exit_code}
    if _is_first():
        write_json(folder / _TOLD, told)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _in_short(error: Exception) -> str:
    """The last line of a failure, which names its kind and says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
