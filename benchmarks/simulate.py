"""How near simulating comes to what the engine itself can do.

    python -m benchmarks.simulate                       the whole of it, most of a night
    python -m benchmarks.simulate --mean 24             the same with short turns, about two hours
    python -m benchmarks.simulate --part placements     where the two roles run, compared
    python -m benchmarks.simulate --quick               minutes, for a look
    python -m benchmarks.simulate --part efficiency --real --rounds 2      turns as long as they are

Everyone makes the same turns of the same lengths on the same engine (`workload`), in interleaved
repetitions, and is judged by output tokens per CPU-second of the engine's process. `efficiency` is
ours over the better of two oracles (`contestants`). Medians; one JSON line a part. With --readings
FILE it can be made in pieces: each adds its repetitions to what the file has of the same work.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contestants import Arena, Contestant, lock_step, oracle_long, oracle_prompts, ours
from benchmarks.endpoint_threads import threads
from benchmarks.machine import machine
from benchmarks.meter import Meter, Reading, watch_steps
from benchmarks.peers import DISTILABEL, distilabel, peers
from benchmarks.placements import compare_placements
from benchmarks.readings import Readings
from benchmarks.resumed import resumed
from benchmarks.stopping import end_at_once
from benchmarks.workload import PEOPLE_MEAN, Work
from usersim.conversation import Role
from usersim.engines import CPU_GROUP, EngineSpec
from usersim.engines.vllm_host import gate_of

BARS = {"crowded": 0.95, "spare": 0.90, "occupancy": 0.94}
PARTS = ("all", "efficiency", "placements", "peers")
OURS, A, B = "ours", "oracle A: prompts known", "oracle B: one long generation"


def specs(work: Work, model: str) -> dict[Role, EngineSpec]:
    """Both roles as speakers on one engine of one thread."""
    common = EngineSpec(
        model=model,
        max_num_seqs=work.slots,
        context_tokens=work.context,
        kv_cache_gb=4.0,  # so that the cache keeps every history that is still being spoken
    )
    return {
        role: common.model_copy(update={"opens": role, "name": role})
        for role in ("user", "assistant")
    }


async def race(
    arena: Arena, contestants: Mapping[str, Contestant], repeat: int, readings: Readings
) -> None:
    """Everybody once a repetition, in turn, each with an empty prefix cache."""
    host = arena.engines["user"].host
    for number in range(repeat):
        for name, contestant in contestants.items():
            await host.forget()
            meter = Meter(host.pids)
            await contestant(arena)
            reading = meter.read(arena.work.tokens, arena.work.slots)
            readings.add(name, reading)
            _say(f"{arena.work.name} [{number + 1}/{repeat}] {_line(name, reading)}")


def median(readings: list[Reading]) -> dict[str, float]:
    """The median of each figure, and the spread of the one that counts."""
    rates = [r.tokens_per_cpu_s for r in readings]
    table = {
        key: statistics.median(asdict(r)[key] for r in readings) for key in asdict(readings[0])
    }
    table["tokens_per_cpu_s"] = statistics.median(rates)
    table["spread"] = (max(rates) - min(rates)) / table["tokens_per_cpu_s"]
    return {key: round(value, 3) for key, value in table.items()}


def judged(work: Work, readings: Mapping[str, list[Reading]], bar: float) -> dict[str, Any]:
    """Everybody's medians, and ours against the oracles and the bars."""
    medians = {name: median(found) for name, found in readings.items() if found}
    best = max(medians[name]["tokens_per_cpu_s"] for name in (A, B))
    mine = medians[OURS]
    return {
        "benchmark": "simulate",
        "work": asdict(work),
        "tokens": work.tokens,
        "contestants": medians,
        "efficiency": round(mine["tokens_per_cpu_s"] / best, 3),
        "efficiency_bar": bar,
        "occupancy": mine["occupancy"],
        "occupancy_bar": BARS["occupancy"] if work.conversations > work.slots else None,
        "repeat": len(readings[OURS]),
        "machine": machine(),
    }


def _line(name: str, r: Reading) -> str:
    return (
        f"{name:32} {r.tokens_per_cpu_s:6.0f} tokens/cpu-s  {r.tokens / r.wall_s:6.0f} tokens/s"
        f"  {r.steps:5d} steps  {r.computed:6d} computed"
        f"  occupancy {r.occupancy:.3f}  cache hits {r.cache_hit_rate:.3f}"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def efficiency(options: argparse.Namespace) -> None:
    """Both works on one engine: more conversations than slots, and as many."""
    from usersim.engines.vllm_engine import VllmEngine

    shape = {"rounds": options.rounds, "slots": options.slots, "mean": options.mean}
    crowded = Work(options.conversations, real=options.real, **shape)
    spare = Work(options.slots, real=options.real, **shape)
    watch_steps()
    engines = VllmEngine.open_shared(specs(crowded, options.model))
    try:
        for work, bar in ((crowded, BARS["crowded"]), (spare, BARS["spare"])):
            if options.only and options.only != ("crowded" if work is crowded else "spare"):
                continue
            arena = Arena(engines, work)
            core: dict[str, Contestant] = {
                OURS: partial(ours, group=gate_of(EngineSpec(), on_cpu=True).group),
                A: oracle_prompts,
                B: oracle_long,
            }
            about = asdict(work) | {"model": options.model, "cpu": machine()["cpu"]}
            readings = Readings(about, options.readings)
            await race(arena, core, options.repeat, readings)
            beside: dict[str, Contestant] = {
                "lock step, in chunks": partial(lock_step, at_once=work.slots),
                "lock step, all at once": partial(lock_step, at_once=work.conversations),
                "a thread each, over HTTP": threads,
                "one resumable request each": resumed,
            }
            if work is spare:
                del beside["lock step, in chunks"]  # the same thing here
                beside["ours, no groups"] = partial(ours, group=1)
                beside["ours, in groups"] = partial(ours, group=CPU_GROUP)
            if os.environ.get(DISTILABEL):
                beside["distilabel's loop, over HTTP"] = distilabel
            await race(arena, beside, options.beside, readings)
            print(json.dumps(judged(work, readings.of, bar)), flush=True)
    finally:
        for engine in engines.values():
            await engine.close()


def main() -> None:
    """Print a JSON line a part on stdout, progress on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, default="all")
    parser.add_argument("--only", choices=("crowded", "spare"), help="one of the two works")
    parser.add_argument("--conversations", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument(
        "--mean", type=float, default=PEOPLE_MEAN, help="mean tokens of a turn; else as people's"
    )
    parser.add_argument("--real", action="store_true", help="turns as long as they really are")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--beside", type=int, default=1, help="repetitions of the other ways")
    parser.add_argument("--readings", type=Path, help="keep them here, and count what is here")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--placement", default="", help="only placements whose name holds this")
    parser.add_argument("--quick", action="store_true", help="48 x 2 on 16, mean 12, twice")
    options = parser.parse_args()
    end_at_once()
    if options.quick:
        small = {"conversations": 48, "rounds": 2, "slots": 16, "mean": 12.0, "repeat": 2}
        vars(options).update(small)
    if options.part in ("all", "efficiency"):
        asyncio.run(efficiency(options))
    if options.part in ("all", "placements"):
        print(json.dumps(asyncio.run(compare_placements(options))), flush=True)
    if options.part in ("all", "peers"):
        work = Work(options.slots, options.rounds, options.slots, options.mean)
        print(json.dumps(peers(work, options.model)), flush=True)


if __name__ == "__main__":
    main()
