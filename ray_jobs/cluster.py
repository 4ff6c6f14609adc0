"""The cluster that a job talks to, and the folder that all its nodes see."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.cli import Options, opened, say
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from usersim.errors import InputError, WorldError

PACKAGE = "runtime_resources"  # the folder in which Ray unpacks a submitted working directory
RUNS = "REALCHAT_RUNS"
"""The variable that names the folder of the runs of submitted jobs."""


@contextmanager
def connected() -> Iterator[None]:
    """Ray: the cluster that the environment names, one on this machine, or a new one here.

    Raises WorldError where the named one cannot be joined.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed: pip install -e '.[ray]'") from error
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, logging_level="warning")
    except Exception as error:  # of many types, AssertionError among them
        named = os.environ.get("RAY_ADDRESS", "not set")
        raise WorldError(
            f"cannot join or start a Ray cluster ({error}). RAY_ADDRESS is {named}: host:port of a"
            " head; http:// is for `ray job submit` only"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def run_of(options: Options, overrides: list[str] | None) -> tuple[Recipe, RunFolder]:
    """The recipe and the run folder of a job, by its full path.

    A submitted job that names no run has it in the folder that `REALCHAT_RUNS` names, else in
    ~/realchat/runs: the own folder of a job goes when it ends. Raises what `opened` raises.
    """
    recipe, folder = opened(options, overrides)
    if options.run is None and PACKAGE in Path.cwd().parts:
        runs = os.environ.get(RUNS) or Path.home() / "realchat" / "runs"
        folder = RunFolder(Path(runs) / recipe.name)
        say(f"run folder: {folder.root}")
    return recipe, RunFolder(seen_by_all(folder.root))


def seen_by_all(root: Path) -> Path:
    """The run folder's full path: workers stand elsewhere. Raises InputError inside a package.

    Links on the way stay: where they lead to here is no path of other nodes.
    """
    if not root.is_absolute() and PACKAGE in Path.cwd().parts:
        raise InputError(
            f"--run {root} would be inside this job's package, which goes when the job ends; name"
            " the full path of a folder that every node sees"
        )
    return root.absolute()


@contextmanager
def sign_in(folder: Path) -> Iterator[str]:
    """Leave a sign in a folder while the block runs; gives its name, for `look_for`.

    A new name each time: what a node's cache of a shared folder says of an old one may be old.
    """
    name = f"driver-{uuid.uuid4().hex[:12]}"
    for left in folder.glob("driver-*"):  # by drivers that were killed
        left.unlink(missing_ok=True)
    (folder / name).touch()
    try:
        yield name
    finally:
        (folder / name).unlink(missing_ok=True)


def look_for(sign: Path) -> None:
    """Raise WorldError when this node does not see the driver's sign, and so not its run folder."""
    if not sign.exists():
        raise WorldError(
            f"node {os.uname().nodename} does not see the driver's {sign.parents[1]}: the run"
            " folder must be one folder, under one path, on every node"
        )
