"""Engines: the model in this process, a server elsewhere, or a script. One function opens them."""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from usersim.conversation import Role
from usersim.engine import Engine
from usersim.errors import InputError
from usersim.settings import Settings

CPU_GROUP = 32
"""Turns that an engine on a CPU without tile instructions admits together while it has slots to
spare, unless a spec says otherwise."""
Determinism = Literal["text", "plan"]
"""What a second run of the same plan gives: the same text, or the same plan and other words."""


class Price(Settings):
    """What a vendor asks for a million tokens."""

    prompt: float = Field(ge=0, description="of a million prompt tokens")
    completion: float = Field(ge=0, description="of a million tokens written")
    cached: float | None = Field(
        None, ge=0, description="of a million prompt tokens that were cached; default: as `prompt`"
    )
    currency: str = Field("USD", description="in which these are")

    def of(self, prompt: int, cached: int, completion: int) -> float:
        """The price of so many tokens; `cached` of the prompt's were cached."""
        cached_price = self.prompt if self.cached is None else self.cached
        fresh = (prompt - cached) * self.prompt
        return (fresh + cached * cached_price + completion * self.completion) / 1e6


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
    shared: bool = Field(
        False, description="vllm: one engine with the other role; see engines.placement"
    )
    adapter: str = Field("", description="vllm: folder of LoRA weights on top of `model`")
    max_num_seqs: int = Field(64, ge=1, description="completions that run at once")
    group: int = Field(
        0, ge=0, description="vllm: turns admitted together; 0: what is best for the device"
    )
    replicas: int = Field(1, ge=1, description="vllm: engines of this model, side by side")
    threads: int = Field(1, ge=1, description="vllm on CPU: cores of this engine")
    cores: str = Field("", description="vllm on CPU: core ids to bind to, as 0-3,6; default: none")
    block_tokens: int = Field(
        32,
        ge=32,
        multiple_of=32,
        description="vllm on CPU: tokens in a block of the KV cache, and of its prefixes",
    )
    kv_cache_gb: float = Field(1.0, gt=0, description="vllm on CPU: memory for the KV cache")
    gpu_memory_utilization: float = Field(
        0.45, gt=0, le=1, description="vllm on GPU: share of its memory for this engine"
    )
    gpus: str = Field(
        "",
        description="vllm on GPU: ids of its devices, as 0 or 2,3, dealt out to its replicas;"
        " default: all",
    )
    tensor_parallel: int = Field(
        1, ge=1, description="vllm on GPU: devices that hold one model together"
    )
    dtype: str = Field("bfloat16", description="vllm: numbers that the model computes in")
    url: str = Field("", description="endpoint: base URL, as http://localhost:8000/v1")
    key_variable: str = Field(
        "", description="endpoint: environment variable that holds the API key"
    )
    timeout_s: float = Field(120.0, gt=0, description="endpoint: longest wait for one completion")
    retries: int = Field(5, ge=0, description="endpoint: tries more after a transient error")
    end_token_id: int | None = Field(
        None, description="endpoint: id of the token by which UserGPT leaves, for `logit_bias`"
    )
    price: Price | None = Field(
        None, description="endpoint: what its tokens cost; default: nothing"
    )
    log_dir: Path | None = Field(None, description="vllm: folder of its log; default: no log")

    @model_validator(mode="after")
    def _replicas_fill_devices(self) -> Self:
        """Else devices would be idle, or hold more engines than others, and nobody be told."""
        places, rest = divmod(len(self._devices), self.tensor_parallel)
        even = not rest and places and self.replicas % places == 0
        if self.kind == "vllm" and self.replicas > 1 and self._devices and not even:
            raise ValueError(
                f"gpus: {self.replicas} replicas with tensor_parallel {self.tensor_parallel} cannot"
                f" be dealt out evenly to {self.gpus!r}: list"
                f" {self.replicas * self.tensor_parallel} devices for one place each"
            )
        return self

    @property
    def _devices(self) -> list[str]:
        return [device.strip() for device in self.gpus.split(",") if device.strip()]

    def replica(self, number: int) -> Self:
        """The spec of one of the replicas, counted from 0, with its own part of `gpus`.

        Where there are fewer places than replicas, as many share each.
        """
        devices, size = self._devices, self.tensor_parallel
        first = number % (len(devices) // size or 1) * size
        return self.model_copy(
            update={"replicas": 1, "gpus": ",".join(devices[first : first + size])}
        )

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


def determinism(engine: EngineSpec | Engine) -> Determinism:
    """What can be promised of a second run with this engine.

    vLLM's sums depend on what else is in the batch (unless VLLM_BATCH_INVARIANT is set, on devices
    that have such kernels), and nobody knows what a server does.
    """
    if not isinstance(engine, EngineSpec):
        return getattr(engine, "determinism", "plan")
    invariant = engine.kind == "vllm" and os.environ.get("VLLM_BATCH_INVARIANT", "0") == "1"
    return "text" if invariant or engine.kind == "scripted" else "plan"


def shares(specs: Iterable[EngineSpec]) -> bool:
    """Whether these roles are speakers on one engine."""
    return all(spec.shared and spec.kind == "vllm" for spec in specs)


def open_shared(specs: Mapping[Role, EngineSpec]) -> dict[Role, Engine]:
    """One engine for several roles: one checkpoint, each role with its own adapter, or none.

    The first spec says how it runs. Raises as `open_engine` does, and InputError for two
    checkpoints or replicas.
    """
    from usersim.engines.vllm_engine import VllmEngine

    return dict(VllmEngine.open_shared(specs))


def open_engine(spec: EngineSpec) -> Engine:
    """The engine that a spec describes, ready to complete; takes seconds for vllm.

    Raises InputError for a spec that cannot be, WorldError when what it needs is not there.
    """
    if spec.kind == "vllm":
        from usersim.engines.replicas import Replicas
        from usersim.engines.vllm_engine import VllmEngine

        if spec.replicas == 1:
            return VllmEngine.open(spec)
        return Replicas.open(
            [partial(VllmEngine.open, spec.replica(n)) for n in range(spec.replicas)]
        )
    if spec.kind == "endpoint":
        from usersim.engines.endpoint import EndpointEngine

        return EndpointEngine.open(spec)
    from usersim.engines.scripted import SCRIPTS

    if spec.model not in SCRIPTS:
        raise InputError(f"no script {spec.model!r}; known: {', '.join(SCRIPTS)}")
    return SCRIPTS[spec.model](spec.opens or "assistant")
