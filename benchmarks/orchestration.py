"""How fast conversations are held when the engine costs nothing: turns a second and core, memory.

    python -m benchmarks.orchestration --conversations 1000,10000,100000
    python -m benchmarks.orchestration --rejected 0.1        a tenth of the conversations fails

Everything but the models is the real thing: guards, the opener index, the journal, shards,
figures. Each size runs in a process of its own, sizes interleaved over the repetitions; what is
counted is CPU time of that process inside `simulate`, after a first, tiny simulation that pays for
the imports (told as `start_up_cpu_s`). Memory is the growth of the process's peak meanwhile.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.stopping import end_at_once
from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines.scripted import Answer, ScriptedEngine, talkative
from usersim.simulate import SimulateSettings, simulate

ROUNDS = 4
BAR = 5000.0
"""Turns a second and core that the orchestration must reach with the journal on."""


def held(conversations: int, rounds: int = ROUNDS, rejected: float = 0.0) -> dict[str, float]:
    """Hold so many conversations in this process; turns, CPU-seconds, peak memory in MiB.

    `rejected` is the share that is refused for good at its opener.
    """
    settings = SimulateSettings(
        conversations=conversations, max_rounds=rounds, opener_attempts=1 if rejected else 8
    )
    with tempfile.TemporaryDirectory() as folder:
        start_up = _warm_up(Path(folder) / "warm")
        memory, before, began = _peak_mib(), time.process_time(), time.monotonic()
        user, assistant = _refused_at_first(rejected), talkative(model="assistant")
        figures = simulate(settings, user, assistant, Path(folder) / "run", "bench", 7)
        cpu, wall = time.process_time() - before, time.monotonic() - began
    turns = user.calls + assistant.calls
    assert figures["planned"] == conversations
    return {
        "conversations": conversations,
        "turns": turns,
        "turns_per_cpu_s": turns / cpu,
        "turns_per_s": turns / wall,
        "start_up_cpu_s": start_up,
        "peak_mib_grown": _peak_mib() - memory,
        "opener_retries": figures["opener_retries"],
        "rejected": figures["rejected"],
    }


def _refused_at_first(share: float) -> ScriptedEngine:
    """A talkative user who says nothing in so many of its openers, and is refused."""
    talks = talkative(model="user")

    def script(messages: Sequence[Message], sampling: Sampling) -> Answer:
        silent = not messages and (sampling.seed or 0) % 1000 < 1000 * share
        return "" if silent else talks._script(messages, sampling)

    return ScriptedEngine(script, "user")


def _warm_up(run: Path) -> float:
    """CPU-seconds of a tiny simulation: what any run imports and opens once."""
    settings, before = SimulateSettings(conversations=8), time.process_time()
    simulate(settings, talkative(), talkative(), run, "warm", 7)
    return time.process_time() - before


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_own_process(conversations: int, rounds: int, rejected: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.orchestration", "--rejected", str(rejected)]
    command += ["--one", str(conversations), "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure(
    sizes: list[int], repeat: int, rounds: int = ROUNDS, rejected: float = 0.0
) -> dict[str, Any]:
    """Medians by size; a repetition holds every size once."""
    runs: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(repeat):
        for size in sizes:
            runs[size].append(_in_own_process(size, rounds, rejected))
    rows = [
        {key: round(statistics.median(r[key] for r in runs[size]), 1) for key in runs[size][0]}
        for size in sizes
    ]
    rates = [row["turns_per_cpu_s"] for row in rows]
    memory = [row["peak_mib_grown"] for row in rows]
    return {
        "benchmark": "orchestration",
        "sizes": rows,
        "slowest_turns_per_cpu_s": min(rates),
        "flatness": round(min(rates) / max(rates), 3),
        "mib_per_1000_conversations": round(
            (memory[-1] - memory[0]) * 1000 / max(sizes[-1] - sizes[0], 1), 3
        ),
        "bar": BAR,
        "holds": min(rates) >= BAR,
        "repeat": repeat,
        "rounds": rounds,
        "machine": machine(),
    }


def shown(result: dict[str, Any]) -> str:
    """The result as a table for people."""
    lines = ["conversations    turns  turns/s/core  turns/s  peak MiB grown"]
    for row in result["sizes"]:
        lines.append(
            f"{row['conversations']:13,.0f} {row['turns']:8,.0f} {row['turns_per_cpu_s']:13,.0f}"
            f" {row['turns_per_s']:8,.0f} {row['peak_mib_grown']:15,.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", default="1000,10000,100000")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--rejected", type=float, default=0.0, help="share that is rejected")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    end_at_once()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.one:
        print(json.dumps(held(options.one, options.rounds, options.rejected)))
        return
    sizes = [int(size) for size in options.conversations.split(",")]
    result = measure(sizes, options.repeat, options.rounds, options.rejected)
    print(shown(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
