"""A notebook of what was asked: every answer is on disk before the next question, none asked twice.

Whoever writes in it reads top to bottom like a conversation; what is known already is read from the
notebook instead of asked again. So a `kill -9` costs the answers in flight and nothing else. It is
the simulation's own journal underneath, owned by whatever decides the questions.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from usersim.conversation import Message, Role
from usersim.engine import Completion, Engine, FinishReason, Sampling
from usersim.errors import DeterministicError, TransientError
from usersim.journal import Attempt, Journal

TRIES = 4  # of one question, when the engine is overloaded
PAUSE_S = 0.5  # before the second; then doubled


class Notebook:
    """Answers by (index, position). Use it as a context manager.

    Raises InputError when the file belongs to other questions.
    """

    def __init__(
        self, path: Path, owner: Mapping[str, str | int], pause_s: float = PAUSE_S
    ) -> None:
        self._journal = Journal(path, owner)
        self._known = {(a.conversation, a.position): a for a in self._journal.attempts()}
        self._pause_s = pause_s
        self.remembered = len(self._known)
        """Answers that were there when it was opened."""
        self.asked = 0
        """Answers that were asked for since."""

    async def ask(
        self,
        place: tuple[int, int],
        engine: Engine,
        messages: Sequence[Message],
        sampling: Sampling,
        role: Role = "assistant",
    ) -> Completion:
        """The answer at this place: the one in the notebook, or the engine's, written down first.

        Raises DeterministicError for what the engine refuses (it is not asked again either),
        TransientError when it stays overloaded, EngineDead.
        """
        known = self._known.get(place)
        if known is None:
            known = await self._ask(place, engine, messages, sampling, role)
            await self._journal.add(known)
            self._known[place] = known
        if known.reason:
            raise DeterministicError(known.text, known.reason)
        finish: FinishReason = "length" if known.finish == "length" else "stop"
        tokens = known.prompt_tokens, known.completion_tokens, known.cached_tokens
        return Completion(known.text, finish, *tokens)

    async def _ask(
        self,
        place: tuple[int, int],
        engine: Engine,
        messages: Sequence[Message],
        sampling: Sampling,
        role: Role,
    ) -> Attempt:
        try:
            made = await self._patiently(engine, messages, sampling)
        except DeterministicError as error:
            return Attempt(*place, 0, role, error.reason, str(error), "", 0, 0, 0)
        counts = made.prompt_tokens, made.completion_tokens, made.cached_tokens
        return Attempt(*place, 0, role, "", made.text.strip(), made.finish_reason, *counts)

    async def _patiently(
        self, engine: Engine, messages: Sequence[Message], sampling: Sampling
    ) -> Completion:
        """One completion. DC3: an overloaded engine is asked again, each time after a pause."""
        for tries in range(TRIES - 1):
            try:
                self.asked += 1
                return await engine.complete(messages, sampling)
            except TransientError:
                await asyncio.sleep(self._pause_s * 2**tries)
        self.asked += 1
        return await engine.complete(messages, sampling)

    def close(self) -> None:
        """Let go of the file."""
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
