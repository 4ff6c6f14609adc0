"""What each of the engine's settings on a CPU is worth.

    python -m benchmarks.engine_options                          all of them, about ten minutes
    python -m benchmarks.engine_options --only "vLLM's top-p"    one (and the default to compare it)

Each variant is an engine of its own that makes the same completions of prescribed lengths, so that
only the setting differs. Two figures: output tokens per CPU-second of all its processes, and per
second; the second one means something on quiet cores only.
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.machine import machine
from benchmarks.meter import Meter, Reading
from benchmarks.workload import Work, prescribed
from usersim.conversation import Message
from usersim.engine import Engine, Sampling
from usersim.engines import EngineSpec, open_engine
from usersim.engines.replicas import Replicas
from usersim.engines.vllm_engine import VllmEngine

QUESTION = "Tell me something about number {}."
DEFAULT = "default: one thread, our nucleus draw, token ids"


def as_it_is(engine: VllmEngine, sampling: Sampling) -> Sampling:
    """Nothing changed."""
    return sampling


def vllms_top_p(engine: VllmEngine, sampling: Sampling) -> Sampling:
    """VLLM draws by itself, with a sort of the vocabulary."""
    engine.host.on_cpu = False
    return replace(sampling, seed=None)


def greedy(engine: VllmEngine, sampling: Sampling) -> Sampling:
    """No draw at all: what sampling costs is the difference."""
    return replace(sampling, temperature=0.0)


Variant = tuple[dict[str, Any], Callable[[VllmEngine, Sampling], Sampling]]
VARIANTS: dict[str, Variant] = {
    DEFAULT: ({}, as_it_is),
    "vLLM's top-p": ({}, vllms_top_p),
    "greedy": ({}, greedy),
    "one engine of two threads": ({"threads": 2}, as_it_is),
    "two engines of one thread": ({"replicas": 2}, as_it_is),
}


async def measured(spec: EngineSpec, variant: Variant, work: Work, repeat: int) -> list[Reading]:
    """Open, hold the work's first turns and second turns `repeat` times, close."""
    changed, ask = variant
    engine = open_engine(spec.model_copy(update=changed))
    parts = engine.engines if isinstance(engine, Replicas) else (engine,)
    hosts = [part.host for part in parts if isinstance(part, VllmEngine)]
    pids = [pid for host in hosts for pid in host.pids]
    readings = []
    try:
        for _ in range(repeat):
            for host in hosts:
                await host.forget()
            meter = Meter(pids)
            tokens = await _talk(engine, [p for p in parts if isinstance(p, VllmEngine)], work, ask)
            readings.append(meter.read(tokens, work.slots))
    finally:
        await engine.close()
    return readings


async def _talk(
    engine: Engine,
    parts: list[VllmEngine],
    work: Work,
    ask: Callable[[VllmEngine, Sampling], Sampling],
) -> int:
    """Every conversation's first two answers; how many tokens they had."""

    async def converse(number: int, seeds: tuple[int, int]) -> int:
        heard, tokens = [Message("user", QUESTION.format(number))], 0
        for seed in seeds:
            sampling = prescribed(Sampling(temperature=1.0, top_p=0.9, seed=seed), work, 0)
            for part in parts:
                sampling = ask(part, sampling)
            made = await engine.complete(heard, sampling)
            tokens += made.completion_tokens
            heard += [Message("assistant", made.text or "."), Message("user", "Go on.")]
        return tokens

    plans = enumerate(work.plans())
    talks = (converse(n, (p.turn_seed(0, 0), p.turn_seed(1, 0))) for n, p in plans)
    return sum(await asyncio.gather(*talks))


async def compared(options: argparse.Namespace) -> dict[str, Any]:
    """One row a variant: medians of its repetitions."""
    work = Work(options.slots, 1, options.slots, options.mean)
    spec = EngineSpec(model=options.model, max_num_seqs=options.slots)
    rows = {}
    for name, variant in VARIANTS.items():
        if name != DEFAULT and options.only not in name:
            continue
        readings = await measured(spec, variant, work, options.repeat)
        rows[name] = {
            "tokens_per_cpu_s": round(statistics.median(r.tokens_per_cpu_s for r in readings), 1),
            "tokens_per_s": round(statistics.median(r.tokens / r.wall_s for r in readings), 1),
        }
    return {"benchmark": "engine_options", "slots": options.slots, "mean": options.mean,
            "repeat": options.repeat, "variants": rows, "machine": machine()}  # fmt: skip


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="variants whose name holds this")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--mean", type=float, default=48.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    print(json.dumps(asyncio.run(compared(parser.parse_args()))))


if __name__ == "__main__":
    main()
