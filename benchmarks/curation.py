"""Curation of many rows, here and on a local Ray cluster: the same ids, rows a second, memory.

    python -m benchmarks.curation --rows 100000            one process, then Ray, a worker killed
    python -m benchmarks.curation --rows 100000 --no-ray   one process alone
    python -m benchmarks.curation --memory 20000 80000     memory of the curating process by rows

Rows are conversations of up to three rounds whose turns are put together of halves of the embedded
real ones; every tenth resembles an earlier one. The killed worker is the one that judges the second
shard. Memory is anonymous (pages of mapped files, the index's, are given back when they are
needed), looked at a hundred times a second, in a process of its own that reads nothing back.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from pipelines.curate import Curation
from pipelines.curate_settings import CurateSettings
from pipelines.judge_shards import ShardJudging
from pipelines.spread import Result, Spread, Task, in_turn
from usersim.conversation import Conversation, Message
from usersim.files import read_rows, write_conversations
from usersim.sources import Draft, Source, SourceSettings

SHARD = 2_000
MODULE = "benchmarks.curation"


def turns_of_people() -> list[tuple[str, str]]:
    """User turns with the answers they got, short enough for chat."""
    drafts = [draft for draft in Source(SourceSettings()) if isinstance(draft, Draft)]
    return [
        (said.content, answer.content[:1200])
        for draft in drafts
        for said, answer in zip(draft.messages, draft.messages[1:], strict=False)
        if said.role == "user"
        and answer.role == "assistant"
        and 3 <= len(said.content.split()) < 90
        and answer.content[:1200].strip()
    ]


def conversations(pairs: Sequence[tuple[str, str]], number: int) -> Iterator[Conversation]:
    """Seeded conversations."""
    draw, openers = random.Random(11), list[tuple[str, str]]()
    for i in range(number):
        chosen = [crossed(*draw.choices(pairs, k=2)) for _ in range(draw.randint(1, 3))]
        if i % 10 == 9:
            said, answer = draw.choice(openers)
            chosen[0] = (f"{said} please", answer)
        openers.append(chosen[0])
        turns = [m for s, a in chosen for m in (Message("user", s), Message("assistant", a))]
        yield Conversation(id=f"row-{i:07d}", messages=tuple(turns), source="benchmark")


def crossed(one: tuple[str, str], other: tuple[str, str]) -> tuple[str, str]:
    """The beginnings of one question and answer with the ends of another: no two rows are alike."""
    said, answer = (
        f"{a[: len(a) // 2]} {b[len(b) // 2 :]}" for a, b in zip(one, other, strict=True)
    )
    return said, answer


def written(folder: Path, number: int) -> None:
    """Shards of rows."""
    made = conversations(turns_of_people(), number)
    for shard in range(-(-number // SHARD)):
        path = folder / "conversations" / f"part-{shard:05d}.parquet"
        write_conversations(path, islice(made, SHARD))


def curated(folder: Path, name: str, spread: Spread) -> dict[str, Any]:
    """Kept ids, figures and seconds of one curation."""
    out = folder / name
    cpu, wall = time.process_time(), time.perf_counter()
    curation = Curation(
        CurateSettings(), folder / "conversations", out / "curated", out / "rejected.parquet"
    )
    figures = curation.carry_out(spread=spread)
    seconds = time.perf_counter() - wall
    ids = [r["id"] for p in sorted((out / "curated").glob("part-*")) for r in read_rows(p)]
    reasons = {r["id"]: r["reason"] for r in read_rows(out / "rejected.parquet")}
    return {
        "seconds": round(seconds, 1),
        "driver_cpu_s": round(time.process_time() - cpu, 1),
        "rows_per_s": round(figures["in"] / seconds),
        "kept": figures["kept"],
        "reasons": figures["reasons"],
        "verdicts": (ids, reasons),
    }


def dying_once(mark: Path, work: Callable[[Task], Result], task: Task) -> Result:
    """The work, but for the first process that is to judge the second shard."""
    if isinstance(task, ShardJudging) and task.number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return work(task)


def on_ray(folder: Path, cpus: int) -> dict[str, Any]:
    """The same on a local cluster, with one worker killed."""
    import ray

    from ray_jobs.curate import RayTasks

    tasks = RayTasks()

    def spread(work: Callable[[Task], Result], given: Sequence[Task]) -> Iterator[Result]:
        return tasks(partial(dying_once, folder / "killed", work), given)

    ray.init(num_cpus=cpus, include_dashboard=False, logging_level="error")
    try:
        return curated(folder, "ray", spread)
    finally:
        ray.shutdown()


class Watch(threading.Thread):
    """Watches how much anonymous memory this process holds at most (RssAnon of proc(5))."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.done = 0, threading.Event()

    def run(self) -> None:
        """Look until it is done."""
        while not self.done.wait(0.01):
            lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            held = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.most = max(self.most, held * 1024)


def peak(rows: int) -> None:
    """Curate so many rows and print the most memory that it took, in bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", MODULE, "--write", name, "--rows", str(rows)], check=True
        )
        watch = Watch()
        watch.start()
        out = folder / "curated", folder / "rejected.parquet"
        figures = Curation(CurateSettings(), folder / "conversations", *out).carry_out(
            spread=in_turn
        )
        watch.done.set()
    print(json.dumps({"rows": rows, "kept": figures["kept"], "peak_bytes": watch.most}))


def growth(sizes: Sequence[int]) -> dict[str, Any]:
    """Peaks by number of rows, and what a further row takes."""
    told = []
    for size in sizes:
        command = [sys.executable, "-m", MODULE, "--peak", "--rows", str(size)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        told.append(json.loads(done.stdout.splitlines()[-1]))
    (low, high) = told[0], told[-1]
    grown = (high["peak_bytes"] - low["peak_bytes"]) / (high["rows"] - low["rows"])
    return {"memory": told, "bytes_per_further_row": round(grown)}


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", type=int, nargs=2, metavar="ROWS")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        written(asked.write, asked.rows)
    elif asked.peak:
        peak(asked.rows)
    elif asked.memory:
        told = {"benchmark": "curation", **growth(asked.memory), "machine": machine()}
        print(json.dumps(told))
    else:
        sys.exit(0 if compared(asked.rows, asked.cpus, ray=asked.ray) else 1)


def compared(rows: int, cpus: int, *, ray: bool) -> bool:
    """Measure one process, and Ray beside it; whether both keep the same rows."""
    with tempfile.TemporaryDirectory() as name:
        written(Path(name), rows)
        told = {"one_process": curated(Path(name), "alone", in_turn)}
        if ray:
            told["ray"] = on_ray(Path(name), cpus)
            told["ray"]["worker_killed"] = (Path(name) / "killed").exists()
    same = len({json.dumps(each.pop("verdicts"), sort_keys=True) for each in told.values()}) == 1
    print(json.dumps({
        "benchmark": "curation", "rows": rows, **told, "same_verdicts": same, "machine": machine(),
    }))  # fmt: skip
    return same


if __name__ == "__main__":
    main()
