"""Curation of many rows, here and on a local Ray cluster: the same ids, and rows a second.

    python -m benchmarks.curation --rows 100000            one process, then Ray, a worker killed
    python -m benchmarks.curation --rows 100000 --no-ray   one process alone

Rows are conversations of up to three rounds whose turns are pieces of the embedded real ones; every
tenth resembles an earlier one. The killed worker is the one that judges the second shard.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
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
        chosen = draw.choices(pairs, k=draw.randint(1, 3))
        if i % 10 == 9:
            said, answer = draw.choice(openers)
            chosen[0] = (f"{said} please", answer)
        openers.append(chosen[0])
        turns = [m for s, a in chosen for m in (Message("user", s), Message("assistant", a))]
        yield Conversation(id=f"row-{i:07d}", messages=tuple(turns), source="benchmark")


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


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        written(Path(name), asked.rows)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        told = {"one_process": curated(Path(name), "alone", in_turn)}
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if asked.ray:
            told["ray"] = on_ray(Path(name), asked.cpus)
            told["ray"]["worker_killed"] = (Path(name) / "killed").exists()
    same = len({json.dumps(each.pop("verdicts"), sort_keys=True) for each in told.values()}) == 1
    print(json.dumps({
        "benchmark": "curation", "rows": asked.rows, **told, "same_verdicts": same,
        "peak_bytes_per_row": round(grown * 1024 / asked.rows), "machine": machine(),
    }))  # fmt: skip
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
