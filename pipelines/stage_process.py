"""Stages, each in a process of its own: `python -m pipelines.stage_process STAGE RUN_FOLDER`.

Memory is given back in between, the C library is tuned before a training stage starts, and the
chatter of libraries goes to `logs/<stage>.log` while progress stays on the screen. A failure is
explained once: the child writes its message to its stdout, which is a pipe, and the parent decides.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.failures import DEBUG, explained
from pipelines.nested import flat
from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from pipelines.stage_table import Stage, stage_named
from pipelines.stages import check_ready, perform
from usersim.errors import RealchatError, WorldError
from usersim.progress import duration, show_on
from usersim.stopping import PASSED_ON

# glibc hands large blocks back to the kernel and faults them in again at every training step:
# 28-43 % of the time of training on a CPU (measured). These must stand before the process starts.
TRAINING_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
PR_SET_PDEATHSIG = 1  # prctl(2): the signal this process gets when its parent dies


class StageFailed(RealchatError):
    """A stage's process ended with this message, already explained, and this exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def carry_out(
    stages: Sequence[Stage],
    recipe: Recipe,
    run: RunFolder,
    say: Callable[[str], None],
    redo: Stage | None = None,
) -> None:
    """Do those of the stages that are not done yet, in order.

    Raises InputError and WorldError for what forbids to begin, StageFailed for what a stage tells,
    KeyboardInterrupt when stopped.
    """
    if not run.exists:
        check_ready(stages[0], recipe, run)  # before anything is made in a mistyped folder
    with run.locked() as lock:
        run.adopt(recipe, redo)
        for number, stage in enumerate(stages, 1):
            head = f"[{number}/{len(stages)}] {stage.verb}" if len(stages) > 1 else stage.verb
            if run.is_done(stage, recipe):
                say(f"{head}: already done, 0.0 s")
                continue
            check_ready(stage, recipe, run)
            say(f"{head}: {stage.title}{_about(stage, recipe)}")
            _apart(stage, run, lock, say)
            mark = run.mark(stage)
            say(f"{head}: done in {duration(mark.seconds if mark else 0.0)}")
        run.write_metrics()  # a kill between a stage's mark and its figures is mended here
        run.write_manifest(recipe)


def environment(stage: Stage, recipe: dict[str, Any]) -> dict[str, str]:
    """The environment of a stage's process; what the caller has set is left as it is."""
    wanted = dict(QUIET)
    if stage.trains:
        wanted |= TRAINING_MEMORY
    if not _may_ask_the_hub(recipe):
        wanted["HF_HUB_OFFLINE"] = "1"  # embedded models and folders need no hub: ask none
    return wanted | os.environ


def _may_ask_the_hub(recipe: dict[str, Any]) -> bool:
    """Whether a recipe names a model `owner/name`, or anything `hub:...`, in whatever table."""
    for key, value in flat(recipe):
        names = [str(name) for name in (value if isinstance(value, list) else [value])]
        is_model = key.startswith("models.") or key.endswith("model")
        if any(name.startswith("hub:") or (is_model and "/" in name) for name in names):
            return True
    return False


def quieten() -> None:
    """Tell the libraries of this process to keep to themselves what nobody asked for."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _about(stage: Stage, recipe: Recipe) -> str:
    expected = recipe.expected_seconds.get(stage.name)
    return f" (about {duration(expected)} on two cores)" if expected else ""


def _apart(stage: Stage, run: RunFolder, lock: int, say: Callable[[str], None]) -> None:
    """Run one stage in a child and wait; Ctrl-C is passed on once, a second one kills."""
    child = subprocess.Popen(  # noqa: S603 - this very module, by this very interpreter
        [sys.executable, "-m", "pipelines.stage_process", stage.name, str(run.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(stage, run.recipe()),
        pass_fds=(lock,),
        process_group=0,  # so that a Ctrl-C reaches the child from here, and once
        text=True,
    )
    try:
        message, _ = child.communicate()
    except KeyboardInterrupt:
        say("stopping; what is finished is kept (Ctrl-C again: at once)")
        _stop(child)
        raise
    finally:
        _sweep(child.pid)
    if child.returncode != 0:
        raise _failure(stage, run, child.returncode, message.strip())


def _stop(child: "subprocess.Popen[str]") -> None:
    child.send_signal(PASSED_ON)  # it may have been told already: a second SIGINT would abort
    try:
        child.communicate()
    except KeyboardInterrupt:
        child.kill()
        child.communicate()


def _sweep(group: int) -> None:
    """End what a stage's process may have left behind (an engine's workers)."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _failure(stage: Stage, run: RunFolder, code: int, message: str) -> RealchatError:
    log = run.logs / f"{stage.name}.log"
    if code > 0 and message:
        return StageFailed(message, code)
    if code == -signal.SIGKILL:
        cause = "was killed, most likely because memory ran out"
    else:
        cause = f"died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
    return WorldError(
        f"the process of {stage.verb} {cause}; its log is {log}; the same command goes on from here"
    )


def main() -> None:
    """The child: do one stage of a run folder and exit with its code."""
    stage, run = stage_named(sys.argv[1]), RunFolder(Path(sys.argv[2]))
    _end_with_parent()
    _hear_parent()
    with _answering(run.logs / f"{stage.name}.log") as answer:
        try:
            recipe = Recipe.checked(run.recipe(), str(run.recipe_file))
            perform(stage, recipe, run)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must be told
            message, code = explained(error, run.logs)
            answer(message)
            sys.stdout.flush()
            sys.exit(code)


def _end_with_parent() -> None:
    """Ask Linux for a SIGTERM when the parent is gone, so that nobody works on unseen."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _hear_parent() -> None:
    """Take what the parent passes on for a Ctrl-C, in a background job too, which is deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(PASSED_ON, lambda *_: signal.raise_signal(signal.SIGINT))


@contextmanager
def _answering(log: Path) -> Iterator[Callable[[str], Any]]:
    """Send this process's stdout and stderr to a log; yields how to write to the real stdout."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    show_on(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1))
    if not os.environ.get(DEBUG):
        handle = _log_handle(log)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
    else:
        os.dup2(2, 1)  # what libraries print is for the screen, the pipe is for the answer
    with answer:
        yield answer.write


def _log_handle(log: Path) -> int:
    try:
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # a full disk: the stage itself will say so, in better words
        return os.open(os.devnull, os.O_WRONLY)


if __name__ == "__main__":
    main()
