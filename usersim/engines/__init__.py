"""Engines: the model in this process, a server elsewhere, or a script. One function opens them."""

from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from usersim.conversation import Role
from usersim.engine import Engine
from usersim.errors import InputError
from usersim.settings import Settings


class EngineSpec(Settings):
    """Which model answers, and where it runs."""

    kind: Literal["vllm", "endpoint", "scripted"] = Field(
        "vllm", description="vllm: in this process; endpoint: an OpenAI-compatible server; scripted"
    )
    model: str = Field(
        "smollm2-135m-instruct",
        description="embedded name, folder or Hub name; the server's model name; a script's name",
    )
    name: str = Field("", description="the model's name in the rows made; default: from `model`")
    opens: Role | None = Field(
        None, description="whose turn it writes; default: what its checkpoint says"
    )
    context_tokens: int = Field(2048, ge=64, description="prompt and completion together")
    max_num_seqs: int = Field(64, ge=1, description="completions that run at once")
    replicas: int = Field(1, ge=1, description="vllm: engines of this model, side by side")
    threads: int = Field(1, ge=1, description="vllm on CPU: cores of this engine")
    cores: str = Field("", description="vllm on CPU: core ids to bind to, as 0-3,6; default: none")
    kv_cache_gb: float = Field(1.0, gt=0, description="vllm on CPU: memory for the KV cache")
    gpu_memory_utilization: float = Field(
        0.45, gt=0, le=1, description="vllm on GPU: share of its memory for this engine"
    )
    dtype: str = Field("bfloat16", description="vllm: numbers that the model computes in")
    url: str = Field("", description="endpoint: base URL, as http://localhost:8000/v1")
    key_variable: str = Field(
        "", description="endpoint: environment variable that holds the API key"
    )
    timeout_s: float = Field(120.0, gt=0, description="endpoint: longest wait for one completion")
    retries: int = Field(5, ge=0, description="endpoint: tries more after a transient error")
    log_dir: Path | None = Field(None, description="vllm: folder of its log; default: no log")

    @property
    def display_name(self) -> str:
        """The model's name in lineage: never a path of this machine."""
        if self.name:
            return self.name
        is_path = self.model.startswith(("/", ".", "~")) or self.model.count("/") > 1
        return Path(self.model).name if is_path else self.model


def model_name(engine: EngineSpec | Engine) -> str:
    """The name of an engine's model, opened or not."""
    return engine.display_name if isinstance(engine, EngineSpec) else engine.model


def open_engine(spec: EngineSpec) -> Engine:
    """The engine that a spec describes, ready to complete; takes seconds for vllm.

    Raises InputError for a spec that cannot be, WorldError when what it needs is not there.
    """
    if spec.kind == "vllm":
        from usersim.engines.replicas import Replicas
        from usersim.engines.vllm_engine import VllmEngine

        if spec.replicas == 1:
            return VllmEngine.open(spec)
        return Replicas.open([partial(VllmEngine.open, spec)] * spec.replicas)
    if spec.kind == "endpoint":
        from usersim.engines.endpoint import EndpointEngine

        return EndpointEngine.open(spec)
    from usersim.engines.scripted import SCRIPTS

    if spec.model not in SCRIPTS:
        raise InputError(f"no script {spec.model!r}; known: {', '.join(SCRIPTS)}")
    return SCRIPTS[spec.model](spec.opens or "assistant")
