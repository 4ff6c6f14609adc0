"""The process in which vLLM runs: started with what a CPU or a GPU needs, shared by its speakers.

One host serves any number of speakers: both roles of a conversation may be requests to one running
batch, each with an adapter of its own or the bare checkpoint. On a CPU: one thread an engine; the
model runs in the engine core's own process rather than in a worker behind it; nucleus sampling is
our own (see `nucleus`); eager, since compiling gains nothing; new turns are admitted in groups (see
`gate`). `python -m benchmarks.engine_options` measures what each of these is worth.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from usersim.cores import has_tiles
from usersim.engines import CPU_GROUP
from usersim.engines.gate import Gate
from usersim.engines.surroundings import (
    Deaths,
    Watchdog,
    children_of,
    environment,
    inherited_by_children,
    parse_cores,
)
from usersim.errors import DeterministicError, EngineDead, InputError, TransientError, WorldError
from usersim.files import read_json

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

    from usersim.engines import EngineSpec

GIB = 1 << 30
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes as `max_lora_rank`
STAT_LOGGERS: list[Any] = []
"""Factories of vLLM stat loggers, for who wants to see every step of engines opened after."""
loading = threading.Lock()
"""One at a time: lazy modules of transformers and vLLM break when two threads import them."""


class Host:
    """A running vLLM. Made by `start`; each speaker that is done says `leave`."""

    def __init__(
        self, llm: "AsyncLLM", *, on_cpu: bool, gate: Gate, adapters: Sequence[Path] = ()
    ) -> None:
        self.on_cpu = on_cpu
        self.gate = gate
        cores = _core_processes(llm)
        self.pids = [*cores, *(child for core in cores for child in children_of(core))]
        """The engine core's process and its workers."""
        self._llm: AsyncLLM | None = llm
        self._speakers = 1
        self._watchdog = Watchdog(self.pids)
        self._deaths = Deaths(cores)
        self._numbers = count()
        self._adapters = _requests(adapters)

    @classmethod
    def start(
        cls, spec: "EngineSpec", folder: Path, context: int, adapters: Sequence[Path] = ()
    ) -> Self:
        """Start vLLM on a checkpoint; takes about 20 seconds on a CPU.

        `adapters` are folders of LoRA weights that speakers may name; a speaker that names none
        gets the checkpoint itself. Raises WorldError when vLLM is missing or cannot start.
        """
        with (
            environment(_variables(spec), _log_file(spec)),
            inherited_by_children(_cores(spec)),
            _as_world_errors(spec),
        ):
            with loading:
                from vllm.engine.arg_utils import AsyncEngineArgs
                from vllm.platforms import current_platform
                from vllm.v1.engine.async_llm import AsyncLLM

                on_cpu = bool(current_platform.is_cpu())
                arguments = _arguments(spec, folder, context, on_cpu) | lora_arguments(adapters)
                config = AsyncEngineArgs(**arguments).create_engine_config()
            _log_to(_log_file(spec))
            llm = AsyncLLM.from_vllm_config(
                config, disable_log_stats=not STAT_LOGGERS, stat_loggers=STAT_LOGGERS or None
            )
        return cls(llm, on_cpu=on_cpu, gate=gate_of(spec, on_cpu), adapters=adapters)

    def shared_by(self, speakers: int) -> Self:
        """Closed when so many speakers have left."""
        self._speakers = speakers
        return self

    async def generate(
        self, prompt: list[int], params: "SamplingParams", adapter: Path | None = None
    ) -> Any:
        """VLLM's output for a prompt, admitted in its group.

        Raises TransientError, DeterministicError (`engine_refused`) or EngineDead.
        """
        async with self.gate.turn():
            asked = self._generate(prompt, params, self._adapters.get(adapter))
            return await self._or_death(asked)

    async def _or_death(self, asked: Coroutine[Any, Any, Any]) -> Any:
        """What was asked for. Raises EngineDead when the core's process ends before.

        vLLM does not tell every request in flight that its core was killed.
        """
        answer = asyncio.ensure_future(asked)
        answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait({answer, self._deaths.first()}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise EngineDead("the vLLM process has died")
        finally:
            answer.cancel()

    async def _generate(
        self, prompt: list[int], params: "SamplingParams", lora: "LoRARequest | None"
    ) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self._llm is None:
            raise EngineDead("the vLLM process is closed")
        number, output = str(next(self._numbers)), None
        try:
            async for output in self._llm.generate(  # noqa: B007 - the last one is what counts
                {"prompt_token_ids": prompt}, params, request_id=number, lora_request=lora
            ):
                pass
        except EngineDeadError as error:
            raise EngineDead("the vLLM process has died") from error
        except EngineGenerateError as error:
            if self._llm.errored:
                raise EngineDead("the vLLM process has died") from error
            raise TransientError(f"vLLM could not complete: {error.__cause__}") from error
        except ValueError as error:
            raise DeterministicError(f"vLLM refused the request: {error}") from error
        if output is None:
            raise TransientError("vLLM ended a request without an answer")
        return output

    async def forget(self) -> None:
        """Empty the prefix cache, so that a measurement begins as a new engine would."""
        if self._llm is not None:
            await self._llm.reset_prefix_cache()

    def leave(self) -> None:
        """One speaker is done; the last one ends the process."""
        self._speakers -= 1
        llm = self._llm
        if self._speakers > 0 or llm is None:
            return
        self._llm = None
        self._deaths.forget()
        llm.shutdown(timeout=5)
        llm.shutdown = _nothing  # its destructor would call it again, at a time of its own
        self._watchdog.dismiss()


def _nothing(timeout: float | None = None) -> None:
    """Stands for what was done."""


def gate_of(spec: "EngineSpec", on_cpu: bool) -> Gate:
    """In groups on a CPU whose kernels are slow at mixing prompts into decoding steps.

    Measured on an AMD EPYC (AVX-512, no AMX) groups of 32 won 16 %; on a Xeon with AMX a mixed step
    cost no more than its tokens, so waiting could only lose. A GPU is like the latter.
    """
    return Gate(spec.max_num_seqs, spec.group or (CPU_GROUP if on_cpu and not has_tiles() else 1))


def lora_arguments(adapters: Sequence[Path]) -> dict[str, Any]:
    """What vLLM must be told to serve these adapters beside the bare checkpoint.

    One place more than there are adapters: with `max_loras=1` vLLM on the CPU gives the adapter to
    the rows of a batch that asked for none.
    """
    if not adapters:
        return {}
    rank = max(int(read_json(folder / "adapter_config.json")["r"]) for folder in adapters)
    fitting = next((r for r in LORA_RANKS if r >= rank), None)
    if fitting is None:
        raise InputError(f"an adapter of rank {rank}: vLLM takes up to {LORA_RANKS[-1]}")
    return {"enable_lora": True, "max_loras": len(adapters) + 1, "max_lora_rank": fitting}


def _requests(adapters: Sequence[Path]) -> "dict[Path | None, LoRARequest]":
    if not adapters:
        return {}
    from vllm.lora.request import LoRARequest

    return {path: LoRARequest(path.name, n, str(path)) for n, path in enumerate(adapters, 1)}


@contextmanager
def _as_world_errors(spec: "EngineSpec") -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise WorldError(
            f"vLLM is not installed or does not load ({error}): run `make setup`, or"
            " pip install -e '.[vllm]' on a machine with a GPU, or take an endpoint engine"
        ) from error
    except (RuntimeError, ValueError, OSError, MemoryError) as error:
        where = f"; see {_log_file(spec)}" if spec.log_dir else ""
        raise WorldError(f"vLLM cannot start {spec.display_name}: {error}{where}") from error


def _core_processes(llm: "AsyncLLM") -> list[int]:
    return [process.pid for process in llm.engine_core.resources.engine_manager.processes]


def _log_to(path: Path) -> None:
    """Let vLLM's logger in this process write to the file too, not to the terminal."""
    logger = logging.getLogger("vllm")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(logging.FileHandler(path, encoding="utf-8"))


def _cores(spec: "EngineSpec") -> set[int]:
    try:
        return parse_cores(spec.cores)
    except ValueError as error:
        raise InputError(f"cores: {spec.cores!r} is not a list like 0-3,6") from error


def _arguments(spec: "EngineSpec", folder: Path, context: int, on_cpu: bool) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": spec.dtype,
        "max_model_len": context,
        "max_num_seqs": spec.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # Where a schema allows whitespace, a small model writes it until it is cut.
        "structured_outputs_config": {
            "backend": "xgrammar",
            "disable_any_whitespace": True,
        },
    }
    if not on_cpu:
        return arguments | {
            "gpu_memory_utilization": spec.gpu_memory_utilization,
            "tensor_parallel_size": spec.tensor_parallel,
        }
    return arguments | {
        "enforce_eager": True,
        "block_size": spec.block_tokens,
        "kv_cache_memory_bytes": int(spec.kv_cache_gb * GIB),
        "logits_processors": ["usersim.engines.nucleus:NucleusDraw"],
    }


def _variables(spec: "EngineSpec") -> dict[str, str]:
    """The engine's environment. Nothing goes out to the network: the checkpoint is a folder."""
    devices = {"CUDA_VISIBLE_DEVICES": spec.gpus} if spec.gpus else {}
    return devices | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # The core's process runs the model itself: on a CPU one process less to wait for. Its
        # threads are bound by the affinity that the process inherits.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(spec.threads),
        "VLLM_LOGGING_LEVEL": "INFO" if spec.log_dir else "ERROR",
        "VLLM_LOGGING_COLOR": "0",
    }


def _log_file(spec: "EngineSpec") -> Path:
    """Where vLLM and its processes write what they have to say."""
    if spec.log_dir is None:
        return Path(os.devnull)
    spec.log_dir.mkdir(parents=True, exist_ok=True)
    return spec.log_dir / "vllm.log"
