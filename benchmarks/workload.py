"""The work that every contestant does: the same conversations, turn lengths prescribed.

How long each turn is, is a draw from the lognormal distribution of real people's turns, scaled to
a mean that a CPU can finish, and a function of the turn's sampling seed alone: of the plan, not of
who schedules it. Every turn runs to its length exactly (`min_tokens = max_tokens`). What a model
says under such a rule is noise, so the orchestration gets a unique word in place of each turn's
text, which its guards leave in peace, while prompts are made of what was really said.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from usersim.conversation import Message
from usersim.engine import Completion, Engine, Sampling
from usersim.plan import Agenda, Plan, SimulateSettings

SIGMA = 0.9
"""Standard deviation of the logarithm of a turn's length in tokens, real people's turns."""
LONGEST = 6.0
"""No turn is longer than so many times the mean: a context has an end."""
SHORTEST = 2
SHARED_SYSTEM = Message("system", "A conversation between a person and an AI assistant.")
"""Both roles read the same tokens: one engine, one stream a conversation."""


@dataclass(frozen=True, slots=True)
class Work:
    """Conversations of `rounds` rounds, turns of `mean` tokens on average, `slots` at once."""

    conversations: int = 256
    rounds: int = 4
    slots: int = 64
    mean: float = 24.0
    seed: int = 7

    @property
    def name(self) -> str:
        """As it stands in tables: `256 x 4 on 64`."""
        return f"{self.conversations} x {self.rounds} on {self.slots}"

    def settings(self) -> SimulateSettings:
        """The simulation that holds exactly these turns; more in flight than there are slots."""
        return SimulateSettings(
            conversations=self.conversations,
            max_rounds=self.rounds,
            min_rounds=self.rounds,
            concurrency=min(self.conversations, self.slots + self.slots // 2),
            assistant_system="",
            end_bias=0.0,
        )

    def plans(self) -> list[Plan]:
        """The conversations, as the simulation knows them."""
        agenda = Agenda(self.settings(), "bench", self.seed)
        return [agenda.plan(index) for index in range(self.conversations)]

    def length(self, turn_seed: int) -> int:
        """Tokens of the turn with this sampling seed."""
        mu = math.log(self.mean) - SIGMA**2 / 2  # so that the mean is the mean
        drawn = random.Random(turn_seed).lognormvariate(mu, SIGMA)
        return round(min(max(drawn, SHORTEST), LONGEST * self.mean))

    def lengths(self) -> list[list[int]]:
        """Tokens of every turn, by conversation."""
        turns = range(2 * self.rounds)
        return [[self.length(p.turn_seed(turn, 0)) for turn in turns] for p in self.plans()]

    @property
    def tokens(self) -> int:
        """Tokens of all turns together."""
        return sum(map(sum, self.lengths()))


@dataclass(frozen=True, slots=True)
class Asked:
    """A completion that was asked for: what stood before it, and how it was drawn."""

    messages: tuple[Message, ...]
    sampling: Sampling


class Prescribed:
    """An engine whose turns have the work's lengths, and say a unique word to the orchestration."""

    def __init__(self, engine: Engine, work: Work, said: dict[str, str]) -> None:
        self._engine, self._work, self._said = engine, work, said
        self.asked: list[Asked] = []

    @property
    def model(self) -> str:
        """The engine's own."""
        return self._engine.model

    @property
    def context_tokens(self) -> int:
        """The engine's own."""
        return self._engine.context_tokens

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The turn at its length; its text is remembered under the word that stands for it."""
        heard = (SHARED_SYSTEM, *(self._really(m) for m in messages if m.role != "system"))
        exact = prescribed(sampling, self._work)
        self.asked.append(Asked(heard, exact))
        completion = await self._engine.complete(heard, exact)
        word = f"u{sampling.seed:x}"
        self._said[word] = completion.text or "."
        return replace(completion, text=word, finish_reason="stop")

    def _really(self, message: Message) -> Message:
        return Message(message.role, self._said[message.content])

    async def close(self) -> None:
        """The engine is somebody else's."""


def prescribed(sampling: Sampling, work: Work) -> Sampling:
    """The same draw, of exactly the work's length."""
    assert sampling.seed is not None
    length = work.length(sampling.seed)
    return replace(sampling, max_tokens=length, min_tokens=length, end_bias=0.0)
