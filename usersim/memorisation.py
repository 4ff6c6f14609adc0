"""Does a simulated user repeat the very people it learned from?

Two measures, each beside what people who were held out do by chance: openers within a Jaccard
similarity of 0.8 of a training person's opener, and the longest verbatim stretch of training
people's words in a user turn. People repeat each other too (prompts go round, error messages are
pasted), so memorisation is what simulated users do *more often* than held-out people.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from pydantic import Field

from usersim.conversation import Conversation
from usersim.overlap import RunIndex
from usersim.settings import Settings


class MemorySettings(Settings):
    """What counts as repeating a training person."""

    opener_similarity: float = Field(
        0.8, gt=0, le=1, description="Jaccard of three-word runs at which an opener is another's"
    )
    min_opener_words: int = Field(
        8, ge=3, description="shorter openers (`tell me a joke`) are everybody's"
    )
    run_words: int = Field(
        8, ge=4, description="a stretch is verbatim where every run of so many words is"
    )
    max_verbatim_words: int = Field(
        30, ge=8, description="a longer stretch of training people's words drops a conversation"
    )


@dataclass(frozen=True, slots=True)
class Recall:
    """What one conversation's user repeats of training people."""

    opener_of: str | None
    """Id of the training conversation that began (nearly) the same."""
    similarity: float
    verbatim_words: int
    """The longest stretch in a user turn."""
    too_long: bool
    """Whether that is longer than allowed."""

    @property
    def found(self) -> str | None:
        """Why this counts as memorised, for a rejected row; None: it does not."""
        if self.opener_of is not None:
            return f"opener of {self.opener_of} ({self.similarity:.2f})"
        return f"{self.verbatim_words} words verbatim" if self.too_long else None


class Memory:
    """The user turns of the people a simulator learned from. Asking changes nothing."""

    def __init__(self, people: Sequence[Conversation], settings: MemorySettings) -> None:
        self.settings = settings
        self._ids = [c.id for c in people]
        self._openers = RunIndex([c.opener for c in people], 3)
        self._turns = RunIndex([turn for c in people for turn in c.user_turns], settings.run_words)

    def recalls(self, conversations: Sequence[Conversation]) -> list[Recall]:
        """For each conversation what its user repeats."""
        if not conversations:
            return []
        nearest = self._nearest([c.opener for c in conversations])
        turns = [turn for c in conversations for turn in c.user_turns]
        lengths = iter(self._turns.longest(turns).tolist())
        longest = [max(next(lengths) for _ in c.user_turns) for c in conversations]
        return list(map(self._recall, nearest, longest))

    def _recall(self, near: tuple[int, float] | None, words: int) -> Recall:
        of, similarity = (self._ids[near[0]], near[1]) if near else (None, 0.0)
        return Recall(of, similarity, words, words > self.settings.max_verbatim_words)

    def _nearest(self, openers: Sequence[str]) -> list[tuple[int, float] | None]:
        """The most similar training opener at or above the threshold, for each opener."""
        sizes = self._openers.shape.sets(openers).sizes.tolist()
        found: list[tuple[int, float] | None] = []
        for text, size, shared in zip(openers, sizes, self._openers.shared(openers), strict=True):
            similar = [
                (n / (size + int(self._openers.sizes[owner]) - n), -owner)
                for owner, n in shared.items()
            ]
            best = max(similar, default=(0.0, 0))
            long = len(text.split()) >= self.settings.min_opener_words
            near = long and best[0] >= self.settings.opener_similarity
            found.append((-best[1], best[0]) if near else None)
        return found


@dataclass(slots=True)
class RecallCount:
    """What many conversations repeat of training people; memory does not grow with their number."""

    lengths: Counter[int] = field(default_factory=Counter)
    """How many conversations by the longest stretch in words."""
    openers: int = 0
    over: int = 0

    def add(self, words: int, *, opener: bool, too_long: bool) -> None:
        """Count one more."""
        self.lengths[words] += 1
        self.openers += opener
        self.over += too_long

    def figures(self) -> dict[str, Any]:
        """For metrics.json.

        `openers` is the share that begin as a training person did; `verbatim` the share that hold a
        stretch over `max_verbatim_words`; `longest` the longest stretch in words, `words_p99` the
        one that a conversation in a hundred exceeds. Shares are None without conversations.
        """
        total = self.lengths.total()
        if not total:
            return {"conversations": 0, "openers": None, "verbatim": None, "longest": None}
        below = list(accumulate(n for _, n in sorted(self.lengths.items())))
        rank = int(0.99 * (total - 1))
        return {
            "conversations": total,
            "openers": round(self.openers / total, 4),
            "verbatim": round(self.over / total, 4),
            "longest": max(self.lengths),
            "words_p99": sorted(self.lengths)[bisect_right(below, rank)],
        }


def recall_figures(recalls: Iterable[Recall]) -> dict[str, Any]:
    """The figures of `RecallCount` for these conversations."""
    count = RecallCount()
    for each in recalls:
        count.add(each.verbatim_words, opener=each.opener_of is not None, too_long=each.too_long)
    return count.figures()
