"""The machine that a figure was measured on, and how busy it was."""

import os
from typing import Any

from pipelines.machine import cores, cpu_facts


def machine() -> dict[str, Any]:
    """Processor, its fast bfloat16, cores, and the load average of the last minute."""
    facts = cpu_facts()
    flags = set(facts.get("flags", "").split())
    return {
        "cpu": facts.get("model name", "unknown"),
        "fast_bf16": sorted(flags & {"avx512_bf16", "amx_bf16"}),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),
    }
