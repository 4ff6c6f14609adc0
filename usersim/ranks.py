"""Training in several processes of this machine, one thread or one GPU each, gradients averaged.

    model, figures = train_model(checkpoint, rows, chat, settings, seed)

The processes find each other as those of torchrun do, by their environment; they are started from
here because that passes progress through and costs no launcher of its own. What they need and what
they leave goes through files, none of them pickled. Where a launcher has started them already, on
several machines perhaps, `in_a_group` lets the first do the work and all of them train.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from usersim.adapters import FOLDER, save_adapter, with_saved_adapter
from usersim.chat_format import ChatFormat, load_tokenizer
from usersim.conversation import Role
from usersim.cores import own_cores
from usersim.errors import RealchatError, WorldError
from usersim.files import read_json, write_json, write_table
from usersim.progress import screen, show_on
from usersim.rows import Row, Target
from usersim.sft import Checks, FitFigures, FitSettings, fit, load_model
from usersim.trainer import check_options, world_size

PR_SET_PDEATHSIG = 1  # prctl(2): the signal this process gets when its parent dies
SCREEN = "REALCHAT_SCREEN"
"""The variable that names the descriptor on which the first process shows progress."""
_READ_AT_ONCE = 512  # rows of a file
LONGEST_PATH = 4096  # bytes, PATH_MAX of Linux
Answer = TypeVar("Answer")

_shared: ContextVar[Path | None] = ContextVar("shared", default=None)
"""The folder through which the processes of a launcher's group train together."""


def in_a_group(shared: Path, lead: Callable[[], Answer]) -> Answer | None:
    """Do `lead` in the first process of torch.distributed's group; wherever it trains, all train.

    For processes that torchrun, Ray Train or the like has started; they see the folder `shared`.
    Returns what `lead` returned, None in the other processes; raises what it raised.
    """
    if world_size() == 1:
        return lead()
    _take_own_gpu()
    if os.environ["RANK"] == "0":
        token = _shared.set(shared)
        try:
            answer = lead()
        except RealchatError:
            with contextlib.suppress(RuntimeError):  # the others may have failed as well
                _announced("")
            raise
        finally:
            _shared.reset(token)
        _announced("")
        return answer
    with Path(os.devnull).open("w") as nowhere:
        show_on(nowhere)
        while folder := _announced(""):
            take_part(Path(folder))
    return None


def train_model(
    checkpoint: Path,
    rows: Sequence[Row],
    chat: ChatFormat,
    settings: FitSettings,
    seed: int,
    checks: Checks | None = None,
) -> tuple[Any, FitFigures]:
    """`fit` the model of a checkpoint, in as many processes as the settings want or the group has.

    Raises WorldError when one of them dies, InputError for an option that TRL does not have.
    """
    check_options(settings.trl)
    shared = _shared.get()
    processes = settings.processes or useful_processes(settings)
    if processes == 1 and not shared:
        return fit(load_model(checkpoint, training=True), rows, chat, settings, seed, checks)
    job = {
        "checkpoint": str(checkpoint),
        "opens": chat.opens,
        "default_system": chat.default_system,
        "settings": settings.model_dump(mode="json", include=set(FitSettings.model_fields)),
        "seed": seed,
    }
    with _folder(checks, shared) as folder:
        _write_rows(folder / "rows.parquet", rows)
        if checks:
            _write_rows(folder / "held_out.parquet", checks.rows)
        write_json(folder / "job.json", job)
        if shared:
            take_part(Path(_announced(str(folder))))
        else:
            _run(folder, processes)
        figures = read_json(folder / "figures.json")
        trained = load_model(folder / "trained", training=False)
        return with_saved_adapter(trained, folder / "trained"), FitFigures(**figures)


def useful_processes(settings: FitSettings, places: int | None = None) -> int:
    """As many as have places and as the rows of a step can be shared out to evenly.

    `places` are the GPUs of this machine, or its cores where it has none, unless told.
    """
    import torch

    if places is None:
        places = torch.cuda.device_count() if torch.cuda.is_available() else own_cores()
    turns = settings.batch_rows // settings.micro_batch_rows
    return max(n for n in range(1, max(1, min(places, turns)) + 1) if turns % n == 0)


@contextlib.contextmanager
def _folder(checks: Checks | None, shared: Path | None) -> Iterator[Path]:
    if checks:
        checks.folder.mkdir(parents=True, exist_ok=True)
        yield checks.folder
    else:
        with tempfile.TemporaryDirectory(prefix="realchat-fit-", dir=shared) as folder:
            yield Path(folder)


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa

    tokens = pa.array([row.input_ids for row in rows], pa.large_list(pa.int32()))
    targets = [[asdict(target) for target in row.targets] for row in rows]
    names = [row.conversation_id for row in rows]
    table = {"conversation_id": names, "input_ids": tokens, "targets": targets}
    write_table(path, pa.table(table))


def _read_rows(path: Path) -> list[Row]:
    """The rows, one object for each different token: every process holds all of them."""
    import pyarrow.parquet as pq

    known: dict[int, int] = {}
    rows = []
    for batch in pq.ParquetFile(path).iter_batches(_READ_AT_ONCE):
        for row in batch.to_pylist():
            ids = [known.setdefault(token, token) for token in row["input_ids"]]
            targets = [Target(**target) for target in row["targets"]]
            rows.append(Row.of(row["conversation_id"], ids, targets))
    return rows


def _run(folder: Path, processes: int) -> None:
    """Start every process and wait; when one fails, the others are ended.

    The first one's progress goes to this process's screen, all else where its output goes.
    """
    port = _free_port()
    handle = screen().fileno()
    children = []
    for rank in range(processes):
        children.append(
            subprocess.Popen(  # noqa: S603 - this very module, by this very interpreter
                [sys.executable, "-m", "usersim.ranks", str(folder)],
                env=os.environ | _place(rank, processes, port) | {SCREEN: str(handle)},
                pass_fds=(handle,) if rank == 0 else (),
                stdin=subprocess.DEVNULL,
            )
        )
    try:
        _wait_for_all(children)
    finally:
        for child in children:
            child.kill()
            child.wait()


def _wait_for_all(children: "list[subprocess.Popen[bytes]]") -> None:
    waiting = list(children)
    while waiting:
        for child in list(waiting):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=0.2)
                waiting.remove(child)
                if code != 0:
                    hint = "memory may have run out: processes=1 of the training needs the least"
                    raise WorldError(
                        f"a training process ended with exit code {code}; "
                        f"{hint if code < 0 else 'why stands in the log before this'}"
                    )


def _place(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torch.distributed reads of the environment."""
    import torch

    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    if not torch.cuda.is_available():
        place["OMP_NUM_THREADS"] = 1
    return {key: str(value) for key, value in place.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """Ask Linux to end this process when the one that waits for it is gone, however it went."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """One of the processes that `train_model` started."""
    _end_with_parent()
    rank = int(os.environ["RANK"])
    show_on(os.fdopen(int(os.environ[SCREEN]) if rank == 0 else os.open(os.devnull, 1), "w"))
    take_part(Path(sys.argv[1]))


def take_part(folder: Path) -> None:
    """Train as one of the processes; the first of them leaves the model and the figures."""
    _take_own_gpu()
    job = read_json(folder / "job.json")
    checkpoint, settings = Path(job["checkpoint"]), FitSettings(**job["settings"])
    opens: Role = job["opens"]
    chat = ChatFormat.of(load_tokenizer(checkpoint)).playing(opens, job["default_system"])
    held_out = folder / "held_out.parquet"
    checks = Checks(_read_rows(held_out), folder) if held_out.is_file() else None
    model = load_model(checkpoint, training=True)
    rows = _read_rows(folder / "rows.parquet")
    model, figures = fit(model, rows, chat, settings, job["seed"], checks)
    sums = {key: _summed(getattr(figures, key)) for key in ("cpu_seconds", "check_cpu_seconds")}
    weights = _gathered(model)
    if os.environ["RANK"] == "0":
        model.save_pretrained(str(folder / "trained"), state_dict=weights)
        chat.tokenizer.save_pretrained(str(folder / "trained"))
        save_adapter(model, folder / "trained" / FOLDER, {})
        whole = asdict(figures) | sums | {"processes": world_size()}
        (folder / "figures.json").write_text(json.dumps(whole), encoding="utf-8")


def _take_own_gpu() -> None:
    """Where processes of a machine see all of its GPUs, each takes the one that is its own."""
    import torch

    if torch.cuda.is_available():
        # The launcher's choice, where it made one: accelerate goes by this variable, too.
        own = os.environ.get("ACCELERATE_TORCH_DEVICE", f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(own)


def _announced(folder: str) -> str:
    """What the first process says, in all of them; the empty text ends the group's work."""
    import torch
    from torch import distributed

    said = torch.tensor(list(folder.encode().ljust(LONGEST_PATH, b"\0")), dtype=torch.uint8)
    if torch.cuda.is_available():
        said = said.cuda()
    distributed.broadcast(said, src=0)
    return bytes(said.tolist()).rstrip(b"\0").decode()


def _gathered(model: Any) -> dict[str, Any]:
    """The whole weights, wherever the processes hold parts of them; empty but in the first one."""
    from torch.distributed.checkpoint import state_dict

    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = state_dict.get_model_state_dict(model, options=options)
    return weights


def _summed(seconds: float) -> float:
    """The sum over all processes."""
    import torch
    from torch import distributed

    total = torch.tensor([seconds], dtype=torch.float64)
    if torch.cuda.is_available():
        total = total.cuda()
    distributed.all_reduce(total)
    return float(total.item())


if __name__ == "__main__":
    main()
