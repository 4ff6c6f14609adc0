"""Closed vocabularies with quotas: scene types, topics, emotions. Nothing off-list can be made.

A quota is a table of weights over labels. `allot` turns it into whole numbers, `deck` into a
shuffled list of exactly those labels, so that marginals are met by construction and not by luck.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from random import Random

from usersim.errors import InputError

SCENE_TYPES = ("chat", "debate", "discussion", "speech")

# Sixteen moods as in games that simulate lives; the labels are SimsChat's.
EMOTIONS = (
    "angry", "asleep", "bored", "confident", "dazed", "embarrassed", "energized", "fine",
    "flirty", "focused", "happy", "inspired", "playful", "sad", "tense", "uncomfortable",
)  # fmt: skip

# Thirteen are those that SimsChat's data can be read as, five are ours (from "advice" on).
TOPICS = (
    "arguments", "complaints", "compliments", "deception", "deep thoughts", "flirtation", "gossip",
    "hobbies", "interests", "jokes", "malicious interactions", "small talk", "stories",
    "advice", "memories", "news", "plans", "work",
)  # fmt: skip


class Vocabulary:
    """A closed list of labels. Recipes may add labels of their own; nothing else is one."""

    def __init__(self, name: str, labels: Sequence[str], more: Iterable[str] = ()) -> None:
        """Raises InputError for a label that stands twice or is empty."""
        self.name = name
        self.labels = (*labels, *more)
        folded = [fold(label) for label in self.labels]
        if "" in folded or len(set(folded)) < len(folded):
            raise InputError(f"{name}: a label stands twice or is empty in {', '.join(folded)}")
        self._by_fold = dict(zip(folded, self.labels, strict=True))

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    def check(self, label: str) -> str:
        """The label itself. Raises InputError, with the nearest one, when it is not on the list."""
        if label in self.labels:
            return label
        near = get_close_matches(fold(label), list(self._by_fold), n=1)
        hint = f"did you mean `{self._by_fold[near[0]]}`?" if near else ", ".join(self.labels)
        raise InputError(f"{self.name}: no label {label!r}; {hint}")

    def recognise(self, text: str) -> str | None:
        """The label that free text spells (case and punctuation aside), or None."""
        return self._by_fold.get(fold(text))

    def weights(self, quota: Mapping[str, float] | None = None) -> dict[str, float]:
        """A weight for every label: the quota's (labels that it leaves out get none), else equal.

        Raises InputError for an unknown label, a negative weight, or no weight at all.
        """
        if not quota:
            return dict.fromkeys(self.labels, 1.0)
        given = {self.check(label): float(weight) for label, weight in quota.items()}
        if min(given.values()) < 0 or sum(given.values()) <= 0:
            raise InputError(f"{self.name}: weights must be 0 or more, and one above 0")
        return {label: given.get(label, 0.0) for label in self.labels}


def fold(label: str) -> str:
    """A label without case, punctuation and repeated spaces."""
    kept = "".join(c if c.isalnum() else " " for c in label.casefold())
    return " ".join(kept.split())


def allot(weights: Mapping[str, float], number: int) -> dict[str, int]:
    """Whole numbers that add up to `number`, each within 1 of its share (largest remainders).

    Ties go to the earlier label. Source: Hamilton's method of apportionment.
    """
    total = sum(weights.values())
    shares = {label: number * weight / total for label, weight in weights.items()}
    counts = {label: int(share) for label, share in shares.items()}
    left = number - sum(counts.values())
    by_remainder = sorted(shares, key=lambda label: counts[label] - shares[label])
    for label in by_remainder[:left]:
        counts[label] += 1
    return counts


def deck(weights: Mapping[str, float], number: int, generator: Random) -> list[str]:
    """`number` labels with exactly the allotted counts, shuffled."""
    labels = [label for label, count in allot(weights, number).items() for _ in range(count)]
    generator.shuffle(labels)
    return labels
