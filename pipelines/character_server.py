"""The vLLM server that plays characters: one merged model, or one base with an adapter for each."""

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from usersim.errors import InputError

ON_A_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
"""What the CPU build is told where the caller's environment says nothing."""


def server_command(
    models: Sequence[Path], host: str, port: int, merged: bool | None = None
) -> list[str]:
    """The vLLM server that plays these characters, under their folders' names.

    `merged`: one character's merged weights; None: for one character alone. Raises InputError for
    characters of different bases, or several merged ones.
    """
    merged = len(models) == 1 if merged is None else merged
    where = ["--host", host, "--port", str(port)]
    if merged:
        if len(models) > 1:
            raise InputError("one server has one merged model: name one character, or --adapters")
        return [*serving(models[0]), "--served-model-name", models[0].name, *where]
    base, checkpoint = _base_of(models)
    named = ["--served-model-name", Path(base).name]
    return [*serving(checkpoint), *named, *where, *_with_adapters(models)]


def serving(checkpoint: Path) -> list[str]:
    """How this environment's vLLM serves a checkpoint."""
    if not is_cpu_build():
        return ["vllm", "serve", str(checkpoint)]
    # The CPU build's own `vllm` command asks for the version of a distribution that is not there.
    module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    small = ["--enforce-eager", "--max-model-len", "2048", "--kv-cache-memory-bytes", str(2**30)]
    return [*module, "--model", str(checkpoint), *small]


def is_cpu_build() -> bool:
    """Whether vLLM is here as the distribution for CPUs."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return True
    return False


def _base_of(models: Sequence[Path]) -> tuple[str, Path]:
    """The base's name, and its folder."""
    from usersim.checkpoints import about_checkpoint, resolve_checkpoint

    names = [m.name for m in models]
    if len(set(names)) < len(names):
        raise InputError(f"two folders have one name: {', '.join(names)}")
    bases = {str(about_checkpoint(m).get("base", "")) for m in models}
    if len(bases) > 1 or not all(bases):
        raise InputError(f"characters of one base can share a server, not of {sorted(bases)}")
    base = bases.pop()
    return base, resolve_checkpoint(base)


def _with_adapters(models: Sequence[Path]) -> list[str]:
    """The same figures that an engine in this process would be given."""
    from usersim.adapters import FOLDER
    from usersim.engines.vllm_host import lora_arguments

    adapters = [m / FOLDER for m in models]
    if missing := [str(m) for m, a in zip(models, adapters, strict=True) if not a.is_dir()]:
        raise InputError(
            f"{missing[0]} has no adapter, its weights were trained as a whole: serve it alone"
        )
    wanted = lora_arguments(adapters)
    modules = [f"{m.name}={a}" for m, a in zip(models, adapters, strict=True)]
    rank, loras = str(wanted["max_lora_rank"]), str(wanted["max_loras"])
    return [
        "--enable-lora", "--max-lora-rank", rank, "--max-loras", loras, "--lora-modules", *modules,
    ]  # fmt: skip
