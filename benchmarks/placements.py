"""Where the two roles run, compared on the same conversations.

Adapters of random weights are made on the spot: speed does not depend on what they say. Counted are
the CPU-seconds of all engine processes together, and wall time where cores are free for both.
"""

import argparse
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contestants import Arena, ours
from benchmarks.machine import machine
from benchmarks.meter import Meter, watch_steps
from benchmarks.workload import Work
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Role
from usersim.engines import EngineSpec, open_engine
from usersim.engines.vllm_engine import VllmEngine
from usersim.engines.vllm_host import gate_of

RANK = 16
SHARE = 4
"""Placements are compared on a quarter of the conversations: a table does not need them all."""


def random_adapter(model: str, folder: Path) -> Path:
    """A LoRA adapter of rank 16 on all linear layers, with small random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from usersim.adapters import Adapter

    checkpoint = resolve_checkpoint(model)
    base = AutoModelForCausalLM.from_pretrained(str(checkpoint), dtype=torch.bfloat16)
    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(base, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-4)
    Adapter.of(adapted).save(folder)
    return folder


def placements(work: Work, model: str, adapters: tuple[str, str]) -> dict[str, Any]:
    """Functions that open the two roles' engines, by the placement's name."""

    def spec(role: Role, **changed: Any) -> EngineSpec:
        given = {"model": model, "opens": role, "name": role, "max_num_seqs": work.slots}
        given["context_tokens"] = work.context
        return EngineSpec(**given | changed)

    def shared(**by_role: str) -> dict[Role, VllmEngine]:
        roles: tuple[Role, Role] = ("user", "assistant")
        return VllmEngine.open_shared({r: spec(r, adapter=by_role.get(r, "")) for r in roles})

    return {
        "two merged checkpoints, two engines": lambda: {
            role: open_engine(spec(role)) for role in ("user", "assistant")
        },
        "one shared checkpoint, one engine": shared,
        "one adapter and the bare model, one engine": partial(shared, user=adapters[0]),
        "two adapters, one engine": partial(shared, user=adapters[0], assistant=adapters[1]),
    }


async def compare_placements(options: argparse.Namespace) -> dict[str, Any]:
    """One row a placement; each opens its own engines and holds the work once."""
    conversations = max(options.conversations // SHARE, 8)
    work = Work(conversations, options.rounds, options.slots, options.mean)
    rows = {}
    watch_steps()
    with tempfile.TemporaryDirectory() as folder:
        adapters = [str(random_adapter(options.model, Path(folder) / n)) for n in ("one", "two")]
        ways = placements(work, options.model, (adapters[0], adapters[1]))
        for name, opened in ways.items():
            if options.placement and options.placement not in name:
                continue
            rows[name] = await _measured(opened(), work)
    return {
        "benchmark": "placements",
        "work": asdict(work),
        "tokens": work.tokens,
        "placements": rows,
        "machine": machine(),
    }


async def _measured(engines: dict[Role, VllmEngine], work: Work) -> dict[str, float]:
    hosts = {id(e.host): e.host for e in engines.values()}.values()
    try:
        meter = Meter([pid for host in hosts for pid in host.pids])
        await ours(Arena(engines, work), gate_of(EngineSpec(), on_cpu=True).group)
        reading = meter.read(work.tokens, work.slots)
    finally:
        for engine in engines.values():
            await engine.close()
    return {
        "tokens_per_cpu_s": round(reading.tokens_per_cpu_s, 1),
        "tokens_per_s": round(reading.tokens / reading.wall_s, 1),
        "cache_hit_rate": round(reading.cache_hit_rate, 3),
        "engines": len(hosts),
    }
