"""The work that every contestant does: the same conversations, turn lengths prescribed.

How long each turn is, is a draw from the lognormal distribution of real people's turns (scaled to
another mean, or as `real` from that of the answers they got where an assistant speaks), and a
function of the turn's sampling seed and its place in the conversation: of the plan, not of who
schedules it. Every turn runs to its length exactly (`min_tokens = max_tokens`). What a model says
under such a rule is noise, so the orchestration gets a unique word in place of each turn's text,
which its guards leave in peace, while prompts are made of what was really said.
"""

import json
import math
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from usersim.chat_format import load_tokenizer
from usersim.checkpoints import resolve_checkpoint
from usersim.conversation import Message
from usersim.engine import Completion, Engine, Sampling
from usersim.files import read_conversations
from usersim.plan import Agenda, Plan, SimulateSettings

PEOPLE_MEAN, SIGMA = 94.0, 1.44
"""Mean length of a turn in tokens, and the standard deviation of its logarithm: 6,240 turns of
1,000 people of the embedded data, median 17 (`python -m benchmarks.workload PEOPLE.parquet`). The
answers they got are longer and more alike: median 276, mean 310, 1.02."""
REAL = ((PEOPLE_MEAN, SIGMA), (310.0, 1.02))
"""Mean and sigma of people's turns, and of the answers."""
LONGEST = 6.0
"""No turn is longer than so many times the mean: a context has an end."""
SHORTEST = 2
CONTEXT = 7168  # and 1,024 more is what the model was made for; `real` conversations are shorter
SHARED_SYSTEM = Message("system", "A conversation between a person and an AI assistant.")
"""Both roles read the same tokens: one engine, one stream a conversation."""


@dataclass(frozen=True, slots=True)
class Work:
    """Conversations of `rounds` rounds, `slots` turns at once.

    Unless `real`, turns have `mean` tokens, before the longest ones are cut.
    """

    conversations: int = 256
    rounds: int = 4
    slots: int = 64
    mean: float = PEOPLE_MEAN
    seed: int = 7
    real: bool = False
    """Lengths as they are, of people and of answers; `mean` says nothing then."""

    @property
    def name(self) -> str:
        """As it stands in tables: `256 x 4 on 64`."""
        lengths = ", real lengths" if self.real else ""
        return f"{self.conversations} x {self.rounds} on {self.slots}{lengths}"

    def shape(self, turn: int) -> tuple[float, float]:
        """Mean and sigma of the lengths of turns at this place in the conversation."""
        return REAL[turn % 2] if self.real else (self.mean, SIGMA)

    @property
    def context(self) -> int:
        """Tokens that the longest conversation may have, and room for a round's settings."""
        longest = sum(LONGEST * self.shape(turn)[0] + 8 for turn in range(2 * self.rounds))
        return 1024 + round(min(longest, CONTEXT))

    def settings(self) -> SimulateSettings:
        """The simulation that holds exactly these turns; more in flight than there are slots."""
        return SimulateSettings(
            conversations=self.conversations,
            max_rounds=self.rounds,
            min_rounds=self.rounds,
            concurrency=min(self.conversations, self.slots + self.slots // 2),
            token_budget=self.context,
            assistant_system="",
            end_bias=0.0,
        )

    def plans(self) -> list[Plan]:
        """The conversations, as the simulation knows them."""
        agenda = Agenda(self.settings(), "bench", self.seed)
        return [agenda.plan(index) for index in range(self.conversations)]

    def length(self, turn_seed: int, turn: int) -> int:
        """Tokens of the turn with this sampling seed, at this place in its conversation."""
        mean, sigma = self.shape(turn)
        mu = math.log(mean) - sigma**2 / 2  # so that the mean is the mean
        drawn = random.Random(turn_seed).lognormvariate(mu, sigma)
        return round(min(max(drawn, SHORTEST), LONGEST * mean))

    def lengths(self) -> list[list[int]]:
        """Tokens of every turn, by conversation."""
        turns = range(2 * self.rounds)
        return [[self.length(p.turn_seed(turn, 0), turn) for turn in turns] for p in self.plans()]

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
        exact = prescribed(sampling, self._work, len(heard) - 1)
        self.asked.append(Asked(heard, exact))
        completion = await self._engine.complete(heard, exact)
        word = f"u{sampling.seed:x}"
        self._said[word] = completion.text or "."
        return replace(completion, text=word, finish_reason="stop")

    def _really(self, message: Message) -> Message:
        return Message(message.role, self._said[message.content])

    async def close(self) -> None:
        """The engine is somebody else's."""


def prescribed(sampling: Sampling, work: Work, turn: int) -> Sampling:
    """The same draw, of exactly the work's length for a turn at this place."""
    assert sampling.seed is not None
    length = work.length(sampling.seed, turn)
    return replace(sampling, max_tokens=length, min_tokens=length, end_bias=0.0)


def fitted(lengths: Sequence[int]) -> dict[str, float]:
    """Mean and median length, and the standard deviation of its logarithm."""
    logs = [math.log(length) for length in lengths]
    return {
        "turns": len(lengths),
        "mean": round(statistics.mean(lengths), 1),
        "median": statistics.median(lengths),
        "sigma": round(statistics.pstdev(logs), 3),
    }


def main(people: Path, model: str = "smollm2-135m-instruct") -> None:
    """Print how long real people's turns, and the answers to them, are in tokens."""
    tokenizer = load_tokenizer(resolve_checkpoint(model))
    conversations = read_conversations(people)[:1000]
    for side in ("user", "assistant"):
        turns = [text for c in conversations for text in getattr(c, f"{side}_turns")]
        lengths = [len(ids) for ids in tokenizer(turns, add_special_tokens=False)["input_ids"]]
        print(json.dumps({"side": side, **fitted([n for n in lengths if n])}))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/people/train.parquet"))
