"""How long one engine's steps take here: `python benchmarks/engine_speed.py MODEL [SEQUENCES ...]`.

For each number of sequences the same prompts are answered with few and with many tokens, lengths
prescribed; the difference is decoding, the rest is prompts. On a CPU it counts the engine's
CPU-seconds (other work on the machine changes them less than the clock), on a GPU the clock's. The
JSON line is what `realchat plan --rates FILE` reads.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

from pipelines.machine import gpus, machine
from usersim.conversation import Message
from usersim.engine import Engine, Sampling
from usersim.engines import EngineSpec, open_engine
from usersim.engines.surroundings import children_of

FEW, MANY, ROUNDS, PROMPT_WORDS = 4, 20, 2, 12
HZ = os.sysconf("SC_CLK_TCK")


def seconds() -> float:
    """CPU-seconds of the engine's processes, or the clock where they do not do the work."""
    if gpus():
        return time.monotonic()
    ticks = 0
    for pid in children_of(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / HZ


async def answered(engine: Engine, sequences: int, tokens: int, salt: str) -> tuple[float, int]:
    """Seconds of so many answers at once, and their prompts' tokens; no prompt was seen before."""
    sampling = Sampling(max_tokens=tokens, min_tokens=tokens, top_p=0.9, seed=1)
    prompts = [
        [Message("user", " ".join(f"{salt}{n}w{word}" for word in range(PROMPT_WORDS)))]
        for n in range(sequences)
    ]
    began = seconds()
    done = await asyncio.gather(*(engine.complete(prompt, sampling) for prompt in prompts))
    return seconds() - began, sum(d.prompt_tokens - d.cached_tokens for d in done)


async def measure(engine: Engine, sequences: int) -> tuple[float, float]:
    """Seconds of a decoding step, and of a prompt token: medians of interleaved rounds."""
    steps, prefills = [], []
    for turn in range(ROUNDS):
        few, _ = await answered(engine, sequences, FEW, f"a{turn}")
        many, prompt = await answered(engine, sequences, MANY, f"b{turn}")
        steps.append((many - few) / (MANY - FEW))
        prefills.append((many - steps[-1] * (MANY - 1)) / prompt)
    return statistics.median(steps), statistics.median(prefills)


async def main(model: str, counts: list[int]) -> None:
    """Measure, and print a line."""
    engine = open_engine(EngineSpec(model=model, max_num_seqs=max(counts), kv_cache_gb=2.0))
    try:
        await answered(engine, 4, FEW, "warm")
        found = {n: await measure(engine, n) for n in counts}
    finally:
        await engine.close()
    table = {
        "model": model,
        "machine": f"{machine()['cpu']}, one thread" if not gpus() else gpus()[0],
        "load": round(os.getloadavg()[0], 1),
        "unit": "seconds by the clock" if gpus() else "CPU-seconds of one thread",
        "steps": [[n, round(step, 5)] for n, (step, _) in found.items()],
        "prefill_s": round(statistics.median(prefill for _, prefill in found.values()), 6),
    }
    print(json.dumps(table))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [int(n) for n in sys.argv[2:]] or [1, 16, 64, 96]))
