"""A speaker on vLLM: its chat format over a running engine; prompts as token ids.

The engine itself, its process and what it needs on a CPU or a GPU are the host's (`vllm_host`).
Each text is tokenised once, however long its conversation grows, and in the same way whenever it is
asked for again: a prompt is a function of the messages alone. Where a model has said its words in
other tokens than the tokenizer would choose, the prefix cache has no use for the rest of that turn.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from usersim.chat_format import FREE_SYSTEM, ChatFormat, has_template, load_tokenizer
from usersim.checkpoints import about_checkpoint, resolve_checkpoint
from usersim.conversation import Message, Role
from usersim.engine import Completion, Sampling
from usersim.engines.vllm_host import Host, loading
from usersim.errors import DeterministicError, InputError

if TYPE_CHECKING:
    from vllm import SamplingParams

    from usersim.engines import EngineSpec

GREEDY = 1e-5  # a temperature below this takes the likeliest token, as in vLLM


class VllmEngine:
    """One model on vLLM. Made by `open`, or several on one host by `open_shared`."""

    def __init__(
        self,
        host: Host,
        chat: ChatFormat,
        model: str,
        context_tokens: int,
        adapter: Path | None = None,
    ) -> None:
        self.host = host
        self._chat = chat
        self._model = model
        self._context_tokens = context_tokens
        self._adapter = adapter
        self._closed = False
        special = set(chat.tokenizer.all_special_ids)
        self._ends = sorted(special | {chat.end_of_turn_id, chat.end_of_conversation_id})

    @classmethod
    def open(cls, spec: "EngineSpec") -> Self:
        """Start the engine; takes about 20 seconds on a CPU.

        Raises InputError for a checkpoint that cannot chat, WorldError when vLLM is missing or
        cannot start.
        """
        return cls.open_shared({"alone": spec})["alone"]

    @classmethod
    def open_shared(cls, specs: "Mapping[Any, EngineSpec]") -> "dict[Any, Self]":
        """Speakers on one engine: one checkpoint, each with its own adapter, or none.

        The first spec says where and how the engine runs. Raises InputError when the specs name
        different checkpoints, and as `open` does.
        """
        first = next(iter(specs.values()))
        with loading:
            folder = _one_folder(specs)
            chats = {who: _chat_format(folder, spec.opens) for who, spec in specs.items()}
        context = min(_longest_context(folder), *(s.context_tokens for s in specs.values()))
        adapters = {who: Path(s.adapter) for who, s in specs.items() if s.adapter}
        host = Host.start(first, folder, context, sorted(set(adapters.values())))
        host.shared_by(len(specs))
        return {
            who: cls(host, chats[who], spec.display_name, context, adapters.get(who))
            for who, spec in specs.items()
        }

    @property
    def model(self) -> str:
        """The model's name, for lineage."""
        return self._model

    @property
    def context_tokens(self) -> int:
        """The smaller of what the spec asks for and what the model was made for."""
        return self._context_tokens

    @property
    def occupancy(self) -> float:
        """Mean share of the engine's slots that had a turn, while there was work."""
        return self.host.gate.occupancy

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
        output = await self.host.generate(prompt, self._params(sampling), self._adapter)
        made = output.outputs[0]
        ids = list(made.token_ids)
        text_ids = ids[:-1] if ids and ids[-1] in self._ends else ids
        text = str(self._chat.tokenizer.decode(text_ids, skip_special_tokens=True)).strip()
        return Completion(
            text=text,
            finish_reason="length" if made.finish_reason == "length" else "stop",
            prompt_tokens=len(prompt),
            completion_tokens=len(ids),
            cached_tokens=output.num_cached_tokens or 0,
        )

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
        on_cpu = self.host.on_cpu
        if on_cpu and drawn and sampling.repetition_penalty == 1:
            seed = sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(4))
            ends = self._ends if sampling.free_end else []
            nucleus = [sampling.temperature, sampling.top_p, seed, ends]
            return SamplingParams(temperature=0.0, extra_args={"nucleus": nucleus}, **fixed)
        # vLLM on the CPU dies of a request with a seed whose prompt it takes in two pieces: it
        # would wind the generator back, which a CPU's cannot.
        seeded = None if on_cpu else sampling.seed
        return SamplingParams(
            temperature=sampling.temperature, top_p=sampling.top_p, seed=seeded, **fixed
        )

    def _logit_bias(self, sampling: Sampling) -> dict[int, float] | None:
        """Leaving is the user's decision; for a model that answers there is nothing to bias."""
        if self._chat.opens != "user" or not sampling.end_bias:
            return None
        return {self._chat.end_of_conversation_id: sampling.end_bias}

    async def close(self) -> None:
        """Leave the engine, whose process ends with its last speaker. Twice is allowed."""
        if not self._closed:
            self._closed = True
            self.host.leave()


def _one_folder(specs: "Mapping[Any, EngineSpec]") -> Path:
    folders = {resolve_checkpoint(spec.model) for spec in specs.values()}
    if len(folders) > 1:
        names = " and ".join(sorted(str(folder) for folder in folders))
        raise InputError(
            f"one engine serves one checkpoint, with adapters: {names} are two. Name one model for"
            " both roles, or take engines.placement=two_engines"
        )
    return folders.pop()


def _grammar(schema: str) -> Any:
    """What makes vLLM decode under a JSON schema; None for free text."""
    if not schema:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(json=schema)


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
