"""Surface statistics: how simulated users type beside how people type, and how far apart they are.

A distance alone says little: two groups of real people differ too. So each distance carries its
floor, the same distance between two halves of the real people (split by a stable hash of their
conversation's id, several times). At its floor a simulator can't be told from people by that
figure.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Self

from usersim.conversation import Conversation
from usersim.errors import InputError

SPLITS = 20
"""Halvings behind a floor; the largest of 20 is about the 95th percentile of chance."""
ROUNDS_SHOWN = 9
"""Conversations of this many rounds or more share the last bin of the rounds distribution."""
OPENING_WORDS = 3
LONG_WORDS = 100
"""Turns longer than this count as this long in a distance of words: of 300 real people the one who
pasted 17,000 words would otherwise outweigh all others. `over_100_words` counts them."""

DEFINITIONS = {
    "words": "pieces between white space in one user turn",
    "lower_case_start": "share of turns whose first character is a lower-case letter",
    "ends_in_punctuation": "share of turns that end in . ? or !",
    "question_mark": "share of turns that contain ?",
    "please": "share of turns that contain 'please'",
    "thank": "share of turns that contain 'thank'",
    "up_to_3_words": "share of turns of 3 words or fewer",
    "over_100_words": "share of turns of more than 100 words",
    "distinct_openings": "distinct first three words / turns, in equally large samples",
    "distinct_turns": "distinct texts / turns (case and spacing ignored), in equally large samples",
    "words_first": "Wasserstein-1 distance between words per first user turn, in words; a turn of "
    f"more than {LONG_WORDS} words counts as {LONG_WORDS}",
    "words_later": "the same for later user turns",
    "doublings_first": "the same for first turns on log2(words) of the whole length: 1 means twice "
    "or half as long, on average",
    "doublings_later": "the same for later turns",
    "rounds": "Jensen-Shannon divergence of the rounds distributions "
    f"(1 to {ROUNDS_SHOWN - 1}, {ROUNDS_SHOWN}+), in bits, 0 to 1",
    "rounds_to_cap": "the same when nobody talks longer than the simulation's cap on rounds let "
    "simulated users talk",
    "floor": "the same distance between two halves of the real people (one of them no larger than "
    f"the simulated side): mean of {SPLITS} splits by a stable hash; high = the largest of them",
}


def compare(simulated: Sequence[Conversation], real: Sequence[Conversation]) -> dict[str, Any]:
    """How far simulated user turns are from real people's, JSON-able.

    Returns `simulated` and `real` (see `describe`), `distance` (name -> `value`, `floor`,
    `floor_high`, `within`; None where a side has no such turns), `rounds_cap` and `definitions`.

    Raises InputError when a side is empty.
    """
    if not simulated or not real:
        raise InputError("nothing to compare: simulated and real need a conversation each")
    sample = min(len(simulated), len(real))
    later = min(len(later_turns(simulated)), len(later_turns(real)))
    cap = rounds_cap(simulated)
    shapes = [Shape.of(c, cap) for c in simulated], [Shape.of(c, cap) for c in real]
    return {
        "simulated": describe(simulated, sample, later),
        "real": describe(real, sample, later),
        "distance": {name: _with_floor(distance, *shapes) for name, distance in DISTANCES.items()},
        "rounds_cap": cap,
        "definitions": DEFINITIONS,
    }


def describe(
    conversations: Sequence[Conversation], first_sample: int, later_sample: int
) -> dict[str, Any]:
    """Counts, `first` and `later` turn statistics, and rounds of one side.

    The samples are the numbers of turns that distinct shares are taken over: such a share falls as
    a set grows, so two sides are comparable only at one size.
    """
    ordered = sorted(conversations, key=lambda c: stable_hash(c.id))
    rounds = [c.num_rounds for c in ordered]
    return {
        "conversations": len(ordered),
        "user_turns": sum(len(c.user_turns) for c in ordered),
        "first": turn_statistics(first_turns(ordered), first_sample),
        "later": turn_statistics(later_turns(ordered), later_sample),
        "rounds": {
            "mean": fmean(rounds),
            "median": median(rounds),
            "share": {str(k): v for k, v in rounds_distribution(rounds).items()},
        },
    }


def first_turns(conversations: Sequence[Conversation]) -> list[str]:
    """The openers."""
    return [c.opener for c in conversations]


def later_turns(conversations: Sequence[Conversation]) -> list[str]:
    """User turns after the first."""
    return [turn for c in conversations for turn in c.user_turns[1:]]


def turn_statistics(turns: Sequence[str], sample: int) -> dict[str, float | int | None]:
    """Statistics of user turns; shares are 0 to 1, and all but `turns` are None without turns."""
    if not turns:
        return {"turns": 0} | dict.fromkeys(["words_median", "words_mean", *SHARES, *_DISTINCT])
    words = [word_count(t) for t in turns]
    result: dict[str, float | int | None] = {
        "turns": len(turns),
        "words_median": median(words),
        "words_mean": fmean(words),
    }
    result |= {name: fmean(map(test, turns)) for name, test in SHARES.items()}
    taken = turns[: max(1, sample)]
    result |= {name: len(set(map(key, taken))) / len(taken) for name, key in _DISTINCT.items()}
    return result


def word_count(text: str) -> int:
    """Pieces between white space."""
    return len(text.split())


def opening(text: str) -> str:
    """The first three words, lower case."""
    return " ".join(text.lower().split()[:OPENING_WORDS])


def frequent_openings(talks: Sequence[Conversation], limit: int = 8) -> list[tuple[str, int]]:
    """The most frequent first three words of the openers, with counts; ties by alphabet."""
    counts = Counter(opening(c.opener) for c in talks)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]


SHARES: dict[str, Callable[[str], bool]] = {
    "lower_case_start": lambda t: t.lstrip()[:1].islower(),
    "ends_in_punctuation": lambda t: t.rstrip().endswith((".", "?", "!")),
    "question_mark": lambda t: "?" in t,
    "please": lambda t: "please" in t.lower(),
    "thank": lambda t: "thank" in t.lower(),
    "up_to_3_words": lambda t: word_count(t) <= 3,
    "over_100_words": lambda t: word_count(t) > 100,
}
"""Statistics of a turn that are shares of turns, each by its test."""
_DISTINCT: dict[str, Callable[[str], str]] = {
    "distinct_openings": opening,
    "distinct_turns": lambda t: " ".join(t.lower().split()),
}


def rounds_distribution(rounds: Sequence[int]) -> dict[int, float]:
    """Share of conversations by number of rounds; the last key counts all longer ones too.

    A conversation whose only turn got no answer has no round and stands under 0.
    """
    counts = Counter(min(r, ROUNDS_SHOWN) for r in rounds)
    return {k: counts[k] / len(rounds) for k in range(ROUNDS_SHOWN + 1) if k or counts[0]}


def stable_hash(text: str, salt: int = 0) -> int:
    """64 bits of a hash that is the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{text}".encode()).digest()[:8], "big")


@dataclass(frozen=True, slots=True)
class Shape:
    """What distances need of a conversation: words per user turn and rounds, without its text."""

    id: str
    first_words: float
    later_words: tuple[float, ...]
    rounds: int
    rounds_to_cap: int

    @classmethod
    def of(cls, conversation: Conversation, cap: int | None = None) -> Self:
        """The shape of one conversation, where simulations had `cap` rounds at most."""
        first, *later = (float(word_count(t)) for t in conversation.user_turns)
        rounds = conversation.num_rounds
        return cls(conversation.id, first, tuple(later), rounds, min(rounds, cap or rounds))


def rounds_cap(simulated: Sequence[Conversation]) -> int | None:
    """The simulation's cap on rounds, as its conversations show it; None where none met it."""
    met = [c.num_rounds for c in simulated if c.stop_reason == "max_rounds"]
    return max(met, default=None)


def halves(shapes: Sequence[Shape], salt: int = 0) -> tuple[list[Shape], list[Shape]]:
    """Two disjoint halves, equal to within one; who is where depends on ids and `salt` alone."""
    ordered = sorted(shapes, key=lambda s: stable_hash(s.id, salt))
    middle = len(ordered) // 2
    return ordered[:middle], ordered[middle:]


Distance = Callable[[Sequence[Shape], Sequence[Shape]], float | None]


def _with_floor(
    distance: Distance, simulated: Sequence[Shape], real: Sequence[Shape]
) -> dict[str, Any]:
    splits = [halves(real, salt) for salt in range(SPLITS)]
    # A smaller sample is farther from anything by chance alone; the floor must pay the same price.
    drawn = [distance(left[: len(simulated)], right) for left, right in splits]
    floors = [f for f in drawn if f is not None]
    value = distance(simulated, real)
    high = max(floors) if floors else None
    return {
        "value": value,
        "floor": fmean(floors) if floors else None,
        "floor_high": high,
        "within": None if value is None or high is None else value <= high,
    }


def wasserstein(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Wasserstein-1 distance of two samples, in their unit; None when one is empty.

    It is the area between the two distribution functions, or what it costs to move one sample
    onto the other (Villani, "Optimal Transport", 2009, remark 2.19).
    """
    import numpy as np

    if not left or not right:
        return None
    a, b = np.sort(np.asarray(left, dtype=float)), np.sort(np.asarray(right, dtype=float))
    points = np.sort(np.concatenate([a, b]))
    below_a = np.searchsorted(a, points[:-1], side="right") / len(a)
    below_b = np.searchsorted(b, points[:-1], side="right") / len(b)
    return float(np.sum(np.abs(below_a - below_b) * np.diff(points)))


def jensen_shannon(left: dict[int, float], right: dict[int, float]) -> float:
    """Jensen-Shannon divergence of two distributions in bits, 0 (the same) to 1 (disjoint).

    Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    total = 0.0
    for key in sorted(left.keys() | right.keys()):
        p, q = left.get(key, 0.0), right.get(key, 0.0)
        middle = (p + q) / 2
        total += sum(x * math.log2(x / middle) / 2 for x in (p, q) if x > 0)
    return max(0.0, total)


def _first(shapes: Sequence[Shape]) -> list[float]:
    return [s.first_words for s in shapes]


def _later(shapes: Sequence[Shape]) -> list[float]:
    return [words for s in shapes for words in s.later_words]


def _capped(words: Sequence[float]) -> list[float]:
    return [min(w, LONG_WORDS) for w in words]


def _doublings(words: Sequence[float]) -> list[float]:
    return [math.log2(max(1.0, w)) for w in words]


def _rounds_apart(left: Sequence[int], right: Sequence[int]) -> float | None:
    if not left or not right:
        return None
    return jensen_shannon(rounds_distribution(left), rounds_distribution(right))


DISTANCES: dict[str, Distance] = {
    "words_first": lambda a, b: wasserstein(_capped(_first(a)), _capped(_first(b))),
    "words_later": lambda a, b: wasserstein(_capped(_later(a)), _capped(_later(b))),
    "doublings_first": lambda a, b: wasserstein(_doublings(_first(a)), _doublings(_first(b))),
    "doublings_later": lambda a, b: wasserstein(_doublings(_later(a)), _doublings(_later(b))),
    "rounds": lambda a, b: _rounds_apart([s.rounds for s in a], [s.rounds for s in b]),
    "rounds_to_cap": lambda a, b: _rounds_apart(
        [s.rounds_to_cap for s in a], [s.rounds_to_cap for s in b]
    ),
}
