"""vLLM in this process: `AsyncLLM`, continuous batching, prefix caching, prompts as token ids.

On a CPU (seen once, SmolLM2-135M, 64 completions at once): one thread an engine; the model runs
in the engine core's own process rather than in a worker behind it (454 against 315 tokens/s, thread
binding differing too); nucleus sampling is our own (see `nucleus`); eager, since compiling gains
nothing.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from usersim.chat_format import FREE_SYSTEM, ChatFormat, has_template, load_tokenizer
from usersim.checkpoints import about_checkpoint, resolve_checkpoint
from usersim.conversation import Message, Role
from usersim.engine import Completion, Sampling
from usersim.engines.surroundings import (
    Watchdog,
    children_of,
    environment,
    inherited_by_children,
    parse_cores,
)
from usersim.errors import DeterministicError, EngineDead, InputError, TransientError, WorldError

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    from usersim.engines import EngineSpec

BLOCK = 32  # tokens in a block of the KV cache: vLLM's CPU kernels want a multiple of 32
GREEDY = 1e-5  # a temperature below this takes the likeliest token, as in vLLM
GIB = 1 << 30
_loading = threading.Lock()


class VllmEngine:
    """One model on vLLM. Made by `open`."""

    def __init__(
        self,
        llm: "AsyncLLM",
        chat: ChatFormat,
        model: str,
        context_tokens: int,
        watchdog: Watchdog,
        draws_nucleus: bool,
    ) -> None:
        self._llm: AsyncLLM | None = llm
        self._chat = chat
        self._model = model
        self._context_tokens = context_tokens
        self._watchdog = watchdog
        self._draws_nucleus = draws_nucleus
        self._numbers = count()
        special = set(chat.tokenizer.all_special_ids)
        self._ends = sorted(special | {chat.end_of_turn_id, chat.end_of_conversation_id})

    @classmethod
    def open(cls, spec: "EngineSpec") -> Self:
        """Start the engine; takes about 20 seconds on a CPU.

        Raises InputError for a checkpoint that cannot chat, WorldError when vLLM is missing or
        cannot start.
        """
        with _loading:
            folder = resolve_checkpoint(spec.model)
            chat = _chat_format(folder, spec.opens)
        context = min(spec.context_tokens, _longest_context(folder))
        llm, children, on_cpu = _start(spec, folder, context)
        return cls(llm, chat, spec.display_name, context, Watchdog(children), on_cpu)

    @property
    def model(self) -> str:
        """The model's name, for lineage."""
        return self._model

    @property
    def context_tokens(self) -> int:
        """The smaller of what the spec asks for and what the model was made for."""
        return self._context_tokens

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The next turn. Text before an end of conversation is a turn like any other.

        Raises DeterministicError (`context_full`, `engine_refused`), TransientError or EngineDead.
        """
        prompt = self._chat.prompt_ids(messages)
        if len(prompt) + sampling.max_tokens > self._context_tokens:
            raise DeterministicError(
                f"{len(prompt)} tokens and {sampling.max_tokens} more do not fit in the context"
                f" of {self._context_tokens}",
                reason="context_full",
            )
        output = await self._generate(prompt, self._params(sampling))
        made = output.outputs[0]
        ids = list(made.token_ids)
        text_ids = ids[:-1] if ids and ids[-1] in self._ends else ids
        text = self._chat.tokenizer.decode(text_ids, skip_special_tokens=True).strip()
        return Completion(
            text=str(text),
            finish_reason="length" if made.finish_reason == "length" else "stop",
            prompt_tokens=len(prompt),
            completion_tokens=len(ids),
            cached_tokens=output.num_cached_tokens or 0,
        )

    async def _generate(self, prompt: list[int], params: "SamplingParams") -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self._llm is None:
            raise EngineDead(f"the engine of {self._model} is closed")
        output = None
        try:
            async for output in self._llm.generate(  # noqa: B007 - the last one is what counts
                {"prompt_token_ids": prompt}, params, request_id=str(next(self._numbers))
            ):
                pass
        except EngineDeadError as error:
            raise EngineDead(f"the vLLM process of {self._model} has died") from error
        except EngineGenerateError as error:
            if self._llm.errored:
                raise EngineDead(f"the vLLM process of {self._model} has died") from error
            raise TransientError(f"vLLM could not complete: {error.__cause__}") from error
        except ValueError as error:
            raise DeterministicError(f"vLLM refused the request: {error}") from error
        if output is None:
            raise TransientError("vLLM ended a request without an answer")
        return output

    def _params(self, sampling: Sampling) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        fixed: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "min_tokens": sampling.min_tokens,
            "repetition_penalty": sampling.repetition_penalty,
            "stop_token_ids": self._ends,
            "logit_bias": self._logit_bias(sampling),
            "ignore_eos": True,  # the ends are ours, whatever the checkpoint calls its eos
            "detokenize": False,
            "output_kind": RequestOutputKind.FINAL_ONLY,
            "structured_outputs": _grammar(sampling.schema),
        }
        drawn = sampling.temperature >= GREEDY
        if self._draws_nucleus and drawn and sampling.repetition_penalty == 1:
            seed = sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(4))
            ends = self._ends if sampling.free_end else []
            nucleus = [sampling.temperature, sampling.top_p, seed, ends]
            return SamplingParams(temperature=0.0, extra_args={"nucleus": nucleus}, **fixed)
        # vLLM on the CPU dies of a request with a seed whose prompt it takes in two pieces: it
        # would wind the generator back, which a CPU's cannot.
        seeded = None if self._draws_nucleus else sampling.seed
        return SamplingParams(
            temperature=sampling.temperature, top_p=sampling.top_p, seed=seeded, **fixed
        )

    def _logit_bias(self, sampling: Sampling) -> dict[int, float] | None:
        """Leaving is the user's decision; for a model that answers there is nothing to bias."""
        if self._chat.opens != "user" or not sampling.end_bias:
            return None
        return {self._chat.end_of_conversation_id: sampling.end_bias}

    async def close(self) -> None:
        """End the engine's process. Calling it twice is allowed."""
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.shutdown(timeout=5)
            llm.shutdown = _nothing  # its destructor would call it again, at a time of its own
            self._watchdog.dismiss()


def _grammar(schema: str) -> Any:
    """What makes vLLM decode under a JSON schema; None for free text."""
    if not schema:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(json=schema)


def _nothing(timeout: float | None = None) -> None:
    """Stands for what was done."""


def _chat_format(folder: Path, opens: Role | None) -> ChatFormat:
    """The checkpoint's chat format, playing the role that the spec or the checkpoint names.

    Raises InputError for a base model: it has no chat template, nobody taught it to take turns.
    """
    tokenizer = load_tokenizer(folder)
    if not has_template(tokenizer):
        raise InputError(
            f"{folder} has no chat template, so it cannot chat: train it first, or name an "
            "instruction-tuned checkpoint"
        )
    chat = ChatFormat.of(tokenizer)
    opens = opens or about_checkpoint(folder).get("opens") or chat.opens
    if opens == chat.opens:
        return chat
    return chat.playing(opens, FREE_SYSTEM if opens == "user" else "")


def _longest_context(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    return int(config.get("max_position_embeddings", 1 << 20))


def _start(spec: "EngineSpec", folder: Path, context: int) -> tuple["AsyncLLM", list[int], bool]:
    """The running engine, its process ids, and whether it runs on a CPU."""
    with (
        environment(_variables(spec), _log_file(spec)),
        inherited_by_children(_cores(spec)),
        _as_world_errors(spec),
    ):
        # One at a time: lazy modules of transformers and vLLM break when two threads import them.
        with _loading:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM

            on_cpu = bool(current_platform.is_cpu())
            arguments = AsyncEngineArgs(**_arguments(spec, folder, context, on_cpu))
            config = arguments.create_engine_config()
        _log_to(_log_file(spec))
        llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        return llm, _processes_of(llm), on_cpu


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


def _processes_of(llm: "AsyncLLM") -> list[int]:
    """The engine core's process and its workers."""
    cores = [process.pid for process in llm.engine_core.resources.engine_manager.processes]
    return [*cores, *(child for core in cores for child in children_of(core))]


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
        return arguments | {"gpu_memory_utilization": spec.gpu_memory_utilization}
    return arguments | {
        "enforce_eager": True,
        "block_size": BLOCK,
        "kv_cache_memory_bytes": int(spec.kv_cache_gb * GIB),
        "logits_processors": ["usersim.engines.nucleus:NucleusDraw"],
    }


def _variables(spec: "EngineSpec") -> dict[str, str]:
    """The engine's environment. Nothing goes out to the network: the checkpoint is a folder."""
    return {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # The core's process runs the model itself. On a CPU one process less looked a third faster;
        # its threads are then bound by the affinity that the process inherits.
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
