"""Duplicates among conversations: by opener and by the whole user side; the best of each stays.

Only what the user said is compared, so the assistant's boilerplate cannot make two conversations
alike. Exact repeats go first (cheap), near-duplicates after. Decisions do not depend on the order
of the records: the best is the one with the longest user side, then the smallest id, and a record
is dropped only for a *kept* one that it truly resembles, never for resembling something dropped.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from pipelines.repetition import words_of
from usersim.conversation import Conversation
from usersim.files import fingerprint
from usersim.neardup import clusters, near_duplicate_pairs
from usersim.settings import Settings
from usersim.shingling import Shingling


class DedupSettings(Settings):
    """What counts as a duplicate. Among real people these drop about 5 % of conversations."""

    shingle_words: int = Field(
        3, ge=1, description="words a shingle; 3 catches edits of 5-8 %, 5 only of 2 % (measured)"
    )
    opener_threshold: float = Field(
        0.8, gt=0, le=1, description="Jaccard similarity at which two openers are the same"
    )
    conversation_threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity at which two user sides are the same"
    )
    short_opener_words: int = Field(
        4, ge=0, description="openers up to this length (`hi`) may open several conversations"
    )
    max_short_openers: int = Field(
        5, ge=1, description="how many conversations one short opener may open"
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """What deduplication needs to know of a conversation."""

    id: str
    opener: str
    user_side: str
    content: str
    """Fingerprint of the whole record, which decides between two records of one id."""

    @classmethod
    def of(cls, conversation: Conversation) -> "Candidate":
        """The candidate that stands for a conversation."""
        content = fingerprint(conversation.to_row())
        user_side = "\n".join(conversation.user_turns)
        return cls(conversation.id, conversation.opener, user_side, content)

    @property
    def rank(self) -> tuple[int, str, str]:
        """Orders candidates, the best first: longest user side in words, then id, then content."""
        return -len(words_of(self.user_side)), self.id, self.content


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Why a candidate goes: the reason, the id of the kept one, and their similarity."""

    reason: str
    kept_id: str
    similarity: float

    def __str__(self) -> str:
        return f"kept={self.kept_id} similarity={self.similarity:.3f}"


Match = tuple[int, float]
"""Position of a kept candidate, and the similarity to it."""

EXACT_REASONS = ("duplicate_id", "exact_duplicate", "same_opener")
NEAR_REASONS = ("near_duplicate_opener", "near_duplicate_conversation")


class Unit(Protocol):
    """One way to be alike, over candidates that are visited in order."""

    def match(self, position: int) -> Match | None:
        """The kept candidate for which this one must go, or None."""
        ...

    def keep(self, position: int) -> None:
        """Take note that this one stays."""
        ...


class Repeats:
    """Alike when the texts are equal; the first `allowed(text)` of them stay."""

    def __init__(self, texts: Sequence[str], allowed: Callable[[str], int] = lambda _: 1) -> None:
        self._texts, self._allowed = texts, allowed
        self._kept: dict[str, list[int]] = defaultdict(list)

    def match(self, position: int) -> Match | None:
        """The first of the kept ones, when there are as many as may be."""
        kept = self._kept[self._texts[position]]
        return (kept[0], 1.0) if len(kept) >= self._allowed(self._texts[position]) else None

    def keep(self, position: int) -> None:
        """Count this one."""
        self._kept[self._texts[position]].append(position)


class NearDuplicates:
    """Alike when the word shingles' Jaccard similarity reaches a threshold.

    `positions` says which candidates are compared at all.
    """

    def __init__(
        self, texts: Sequence[str], positions: Sequence[int], threshold: float, shape: Shingling
    ) -> None:
        pairs = near_duplicate_pairs([texts[i] for i in positions], threshold, shape)
        # Texts with the same shingles are linked to the first of them only: they are one group.
        groups = clusters(len(positions), (pair for pair in pairs if pair.jaccard == 1.0))
        first = {member: group[0] for group in groups for member in group}
        self._group = {position: first[i] for i, position in enumerate(positions)}
        self._alike: dict[int, dict[int, float]] = defaultdict(dict)
        for pair in pairs:
            left, right = first[pair.left], first[pair.right]
            self._alike[left][right] = self._alike[right][left] = pair.jaccard
        self._kept: dict[int, int] = {}

    def match(self, position: int) -> Match | None:
        """The most similar of the kept ones; between equals the one that was visited first."""
        alike = self._alike.get(self._group.get(position, -1), {})
        kept = [(self._kept[group], score) for group, score in alike.items() if group in self._kept]
        return min(kept, key=lambda match: (-match[1], match[0]), default=None)

    def keep(self, position: int) -> None:
        """Let this one stand for its group."""
        if position in self._group:
            self._kept.setdefault(self._group[position], position)


def deduplicate(candidates: Sequence[Candidate], settings: DedupSettings) -> dict[int, Duplicate]:
    """The duplicates among candidates, by position; every other candidate is kept.

    Candidates are visited best first; one goes when any unit finds a kept one that it is alike to,
    and the first such unit (in the order of EXACT_REASONS + NEAR_REASONS) names the reason.
    A chain a-b-c, in which a and c are not alike, so keeps a and c if a is the best.
    """
    order = sorted(range(len(candidates)), key=lambda i: candidates[i].rank)
    ranked = [candidates[i] for i in order]
    units = _units(ranked, settings)
    duplicates: dict[int, Duplicate] = {}
    for position, original in enumerate(order):
        found = ((reason, unit.match(position)) for reason, unit in units.items())
        reason, match = next(((r, m) for r, m in found if m), ("", None))
        if match:
            duplicates[original] = Duplicate(reason, ranked[match[0]].id, match[1])
            continue
        for unit in units.values():
            unit.keep(position)
    return duplicates


def _units(ranked: Sequence[Candidate], settings: DedupSettings) -> dict[str, Unit]:
    shape = Shingling(settings.shingle_words)
    openers = [_normal(c.opener) for c in ranked]
    sides = [_normal(c.user_side) for c in ranked]
    long = [i for i, text in enumerate(openers) if not _is_short(text, settings)]
    everything = range(len(ranked))
    units: list[Unit] = [
        Repeats([c.id for c in ranked]),
        Repeats(sides),
        Repeats(openers, lambda o: settings.max_short_openers if _is_short(o, settings) else 1),
        NearDuplicates(openers, long, settings.opener_threshold, shape),
        NearDuplicates(sides, everything, settings.conversation_threshold, shape),
    ]
    return dict(zip(EXACT_REASONS + NEAR_REASONS, units, strict=True))


def _is_short(opener: str, settings: DedupSettings) -> bool:
    return len(words_of(opener)) <= settings.short_opener_words


def _normal(text: str) -> str:
    return " ".join(words_of(text)) or text.strip()
