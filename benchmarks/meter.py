"""What an engine did and what it cost: CPU time of its processes, steps, slots, cached tokens."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
DRAIN = 0.9
"""Occupancy is counted until this share of the tokens is made: then the last ones drain."""


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of processes, all their threads (proc(5): fields 14 and 15)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


@dataclass(slots=True)
class Steps:
    """Every step of the engines in this process, as vLLM's own counters tell them."""

    running: list[int] = field(default_factory=list)
    """Requests in the batch, step by step."""
    made: list[int] = field(default_factory=list)
    """Tokens that came out."""
    prompt: int = 0
    cached: int = 0

    def clear(self) -> None:
        """Forget what was counted."""
        self.running.clear()
        self.made.clear()
        self.prompt = self.cached = 0

    def occupancy(self, slots: int) -> float:
        """Tokens a step and slot, until the last tenth of them."""
        limit, done, steps = DRAIN * sum(self.made), 0, 0
        for made in self.made:
            if done >= limit:
                break
            done += made
            steps += 1
        return done / (steps * slots) if steps else 0.0


STEPS = Steps()


def watch_steps() -> None:
    """Count the steps of vLLM engines that are opened from now on into `STEPS`."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    from usersim.engines import vllm_host

    class StepCounter(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **more: Any
        ) -> None:
            if scheduler_stats is not None:
                STEPS.prompt += scheduler_stats.prefix_cache_stats.queries
                STEPS.cached += scheduler_stats.prefix_cache_stats.hits
            if iteration_stats is not None and iteration_stats.num_generation_tokens:
                STEPS.made.append(iteration_stats.num_generation_tokens)

        def log_engine_initialized(self) -> None:
            pass

    vllm_host.STAT_LOGGERS[:] = [StepCounter]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one contestant took for one piece of work."""

    tokens: int
    cpu_s: float
    wall_s: float
    steps: int
    occupancy: float
    cache_hit_rate: float
    computed: int
    """Prompt tokens that were not cached: what listening costs beside speaking."""

    @property
    def tokens_per_cpu_s(self) -> float:
        """Tokens made per CPU-second of the engine."""
        return self.tokens / max(self.cpu_s, 1e-9)


class Meter:
    """Reads the clocks and counters before and after."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        STEPS.clear()
        self._cpu, self._wall = cpu_seconds(pids), time.monotonic()

    def read(self, tokens: int, slots: int) -> Reading:
        """What happened since the meter was made."""
        return Reading(
            tokens=tokens,
            cpu_s=cpu_seconds(self._pids) - self._cpu,
            wall_s=time.monotonic() - self._wall,
            steps=len(STEPS.made),
            occupancy=STEPS.occupancy(slots),
            cache_hit_rate=STEPS.cached / STEPS.prompt if STEPS.prompt else 0.0,
            computed=STEPS.prompt - STEPS.cached,
        )
