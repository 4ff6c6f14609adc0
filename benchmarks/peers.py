"""The same turns by other people's loops, where they run.

`transformers.generate` runs here, in a process of its own. distilabel and SDialog pin other
versions of what we build on, so each is looked for in an environment of its own, whose interpreter
REALCHAT_BENCH_DISTILABEL or REALCHAT_BENCH_SDIALOG names; without one it is listed as not measured.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from benchmarks.machine import machine
from benchmarks.workload import Work

ELSEWHERE = {
    "distilabel": "REALCHAT_BENCH_DISTILABEL",
    "sdialog": "REALCHAT_BENCH_SDIALOG",
}


def peers(work: Work, model: str) -> dict[str, Any]:
    """One row a peer: tokens of use per CPU-second, or why there is no figure."""
    rows = {"transformers.generate, batched": _transformers(work, model)}
    for name, variable in ELSEWHERE.items():
        rows[f"{name}'s loop"] = _elsewhere(name, os.environ.get(variable, ""))
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


def _elsewhere(name: str, python: str) -> dict[str, Any]:
    if not python:
        return {"not_measured": f"no environment with {name} ({ELSEWHERE[name]})"}
    found = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
    why = found.stderr.decode(errors="replace").splitlines()[-1:] if found.returncode else []
    return {"not_measured": why[0] if why else "installed; no adapter to prescribed lengths yet"}
