"""Duplicates among conversations: by opener and by the whole user side; the best of each stays.

Only what the user said is compared, so the assistant's boilerplate cannot make two conversations
alike. Exact repeats go first (cheap), near-duplicates after. Decisions do not depend on the order
of the records: the best is the one with the longest user side, then the smallest id, and a record
is dropped only for a *kept* one that it truly resembles, never for resembling something dropped.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from pipelines.repetition import words_of
from usersim.conversation import Conversation
from usersim.files import fingerprint
from usersim.neardup import Pair, Shingling, clusters, near_duplicate_pairs
from usersim.settings import Settings


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


Found = dict[int, tuple[int, float]]
"""Position of each duplicate -> position of the kept one and the similarity."""

EXACT_REASONS = ("duplicate_id", "exact_duplicate", "same_opener")
NEAR_REASONS = ("near_duplicate_opener", "near_duplicate_conversation")


def deduplicate(candidates: Sequence[Candidate], settings: DedupSettings) -> dict[int, Duplicate]:
    """The duplicates among candidates, by position; every other candidate is kept.

    Each unit looks at what the units before it left, in the order of EXACT_REASONS + NEAR_REASONS.
    """
    finders = dict(zip(EXACT_REASONS + NEAR_REASONS, _finders(settings), strict=True))
    left = sorted(range(len(candidates)), key=lambda i: candidates[i].rank)
    duplicates: dict[int, Duplicate] = {}
    for reason, find in finders.items():
        # Ranked: the lower the position within `ranked`, the better the candidate.
        ranked = [candidates[i] for i in left]
        found = find(ranked)
        for position, (kept, similarity) in found.items():
            duplicates[left[position]] = Duplicate(reason, ranked[kept].id, similarity)
        left = [i for position, i in enumerate(left) if position not in found]
    return duplicates


def _finders(settings: DedupSettings) -> list[Callable[[Sequence[Candidate]], Found]]:
    shape = Shingling(settings.shingle_words)

    def is_short(opener: str) -> bool:
        return len(words_of(opener)) <= settings.short_opener_words

    def allowed(opener: str) -> int:
        return settings.max_short_openers if is_short(opener) else 1

    def near_openers(ranked: Sequence[Candidate]) -> Found:
        long = [i for i, c in enumerate(ranked) if not is_short(c.opener)]
        texts = [ranked[i].opener for i in long]
        found = keep_best(len(long), near_duplicate_pairs(texts, settings.opener_threshold, shape))
        return {long[i]: (long[kept], score) for i, (kept, score) in found.items()}

    def near_conversations(ranked: Sequence[Candidate]) -> Found:
        long = [i for i, c in enumerate(ranked) if not is_short(c.user_side)]
        texts = [ranked[i].user_side for i in long]
        pairs = near_duplicate_pairs(texts, settings.conversation_threshold, shape)
        found = keep_best(len(long), pairs)
        return {long[i]: (long[kept], score) for i, (kept, score) in found.items()}

    return [
        lambda ranked: repeats([c.id for c in ranked]),
        lambda ranked: repeats([_normal(c.user_side) for c in ranked], allowed),
        lambda ranked: repeats([_normal(c.opener) for c in ranked], allowed),
        near_openers,
        near_conversations,
    ]


def repeats(texts: Iterable[str], allowed: Callable[[str], int] = lambda _: 1) -> Found:
    """Positions of texts seen `allowed(text)` times before, each with the first of them."""
    seen: dict[str, list[int]] = defaultdict(list)
    found: Found = {}
    for position, text in enumerate(texts):
        if len(seen[text]) >= allowed(text):
            found[position] = (seen[text][0], 1.0)
        else:
            seen[text].append(position)
    return found


def keep_best(n: int, pairs: Sequence[Pair]) -> Found:
    """Of `n` records ranked best first: those that resemble a better *kept* one, and which one.

    `pairs` as from `near_duplicate_pairs`: equal records are linked to the first of them only. A
    chain a-b-c, in which a and c are not alike, keeps a and c; connected components would lose c.
    """
    equal = clusters(n, (p for p in pairs if p.jaccard == 1.0))
    first = {member: group[0] for group in equal for member in group}
    alike: dict[int, dict[int, float]] = defaultdict(dict)
    for pair in pairs:
        better, worse = sorted((first[pair.left], first[pair.right]))
        if better != worse:
            alike[worse][better] = pair.jaccard
    found: Found = {}
    for position in sorted(set(first.values())):
        kept = {other: score for other, score in alike[position].items() if other not in found}
        if kept:
            best = max(kept, key=lambda other: (kept[other], -other))
            found[position] = (best, kept[best])
    for position, leader in first.items():
        if position != leader:
            # A copy of a dropped record goes for the same kept one, with the same similarity.
            found[position] = found.get(leader, (leader, 1.0))
    return found


def _normal(text: str) -> str:
    return " ".join(words_of(text)) or text.strip()
