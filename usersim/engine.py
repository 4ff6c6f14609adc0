"""The engine: whatever turns messages into a completion. One method, many implementations."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from usersim.conversation import Message

FinishReason = Literal["stop", "length"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one completion is drawn."""

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    min_tokens: int = 0
    free_end: bool = False
    """Whether the end of a turn is drawn from the model's own probability, outside the nucleus, by
    an engine that can; in a nucleus, an end is too improbable after most words to be drawn."""
    end_bias: float = 0.0
    """Added to the logit of the end-of-conversation token, where there is one; -100 forbids it."""
    schema: str = ""
    """A JSON schema, as text, that the completion must keep to; empty for free text. An engine that
    cannot decode under a grammar may ignore it, so whoever asks checks the answer all the same."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated turn. An empty `text` with `finish_reason` "stop": the speaker has left."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the engine's prefix cache held already."""


class Engine(Protocol):
    """Completes message lists; safe to call from many coroutines at once.

    Raises TransientError, DeterministicError or EngineDead (see usersim.errors).
    """

    @property
    def model(self) -> str:
        """The model's name, for lineage."""
        ...

    @property
    def context_tokens(self) -> int:
        """Prompt and completion together may not be longer than this."""
        ...

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The next turn after `messages` (which may be empty), by whoever this model plays."""
        ...

    async def close(self) -> None:
        """Give back what the engine holds. Calling it twice is allowed."""
        ...


async def all_or_none(asked: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All that is asked of engines, at once; on the first error the others are cancelled.

    Raises that error. With `asyncio.gather` an engine would go on with what nobody waits for, and
    its answers would come when whatever keeps them is closed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in asked]
    except BaseExceptionGroup as errors:  # callers catch each by its type
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
