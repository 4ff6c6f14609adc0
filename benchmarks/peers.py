"""The same turns by other people's loops, where they run.

`transformers.generate` runs in a process of its own. distilabel lives in an environment of its own,
whose interpreter REALCHAT_BENCH_DISTILABEL names:

    python3 -m venv D && D/bin/pip install distilabel openai requests pillow

Without one it is listed as not measured, and so is SDialog, whose requirements pip did not resolve
within minutes.
"""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contestants import Arena
from benchmarks.endpoint_threads import served
from benchmarks.machine import machine
from benchmarks.workload import SHARED_SYSTEM, Work

DISTILABEL = "REALCHAT_BENCH_DISTILABEL"
DISTILABEL_BATCH = 50  # its own default for the rows that a step takes at once
LOOP = Path(__file__).with_name("distilabel_loop.py")


async def distilabel(arena: Arena) -> None:
    """Its Magpie task: batches of conversations in lock step, over our endpoint."""
    arena.gate(None)
    turns = range(2 * arena.work.rounds)
    seeds = [[plan.turn_seed(turn, 0) for turn in turns] for plan in arena.work.plans()]
    with served(arena, asyncio.get_running_loop()) as url:
        given = {"url": url, "system": SHARED_SYSTEM.content, "seeds": seeds}
        argument = json.dumps(given | {"batch": DISTILABEL_BATCH})
        process = await asyncio.create_subprocess_exec(os.environ[DISTILABEL], str(LOOP), argument)
        if await process.wait():
            raise RuntimeError("distilabel's loop failed; what it said stands above")


def peers(work: Work, model: str) -> dict[str, Any]:
    """One row a peer that needs no engine of ours: tokens of use per CPU-second."""
    rows: dict[str, Any] = {"transformers.generate, batched": _transformers(work, model)}
    if not os.environ.get(DISTILABEL):
        rows["distilabel's loop"] = {"not_measured": f"{DISTILABEL} names no interpreter"}
    rows["SDialog's loop"] = {"not_measured": "its requirements did not resolve beside ours"}
    return {"benchmark": "peers", "work": asdict(work), "peers": rows, "machine": machine()}


def _transformers(work: Work, model: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.transformers_loop"]
    command += [json.dumps(asdict(work)), model]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {
        "tokens_per_cpu_s": round(row["tokens"] / row["cpu_s"], 1),
        "tokens_per_s": round(row["tokens"] / row["wall_s"], 1),
        "tokens": row["tokens"],
    }
