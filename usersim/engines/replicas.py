"""Several engines of one model that look like one: more cores or devices for the busier role."""

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Self

from usersim.conversation import Message
from usersim.engine import Completion, Engine, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable


class Replicas:
    """Sends every turn of a conversation to the same engine, which has its prefix cached."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = tuple(engines)
        self._next = count()

    @classmethod
    def open(cls, openers: "Sequence[Callable[[], Engine]]") -> Self:
        """Open all side by side; when one fails, close the others and raise what it raised."""
        with ThreadPoolExecutor(len(openers)) as pool:
            opening = [pool.submit(opener) for opener in openers]
        failures = [error for task in opening if (error := task.exception())]
        if failures:
            opened = [task.result() for task in opening if not task.exception()]
            asyncio.run(cls(opened).close())
            raise failures[0]
        return cls([task.result() for task in opening])

    @property
    def model(self) -> str:
        """The model that all of them are."""
        return self.engines[0].model

    @property
    def context_tokens(self) -> int:
        """The smallest context among them."""
        return min(engine.context_tokens for engine in self.engines)

    @property
    def occupancy(self) -> float:
        """Mean share of all their slots that had a turn."""
        return sum(getattr(e, "occupancy", 0.0) for e in self.engines) / len(self.engines)

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The completion of the conversation's own engine."""
        return await self._engine_of(messages).complete(messages, sampling)

    def _engine_of(self, messages: Sequence[Message]) -> Engine:
        """By the opener, which a conversation keeps; openers themselves go round."""
        opener = next((m.content for m in messages if m.role == "user"), None)
        if opener is None:
            return self.engines[next(self._next) % len(self.engines)]
        digest = hashlib.blake2b(opener.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return self.engines[int.from_bytes(digest) % len(self.engines)]

    async def close(self) -> None:
        """Close all."""
        for engine in self.engines:
            await engine.close()
