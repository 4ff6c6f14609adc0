"""The words that give a simulator away: what its users say more often, or less, than people do."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TypedDict

from usersim.fidelity.classifiers import tokens

FEWEST_PERSONS = 5
"""Words that fewer persons use, on either side, are not shown: they may be someone's own."""
PRIOR = 0.5


class TellingWord(TypedDict):
    """A word, the shares of persons who use it, and how surely these differ."""

    word: str
    simulated: float
    real: float
    z: float
    """Log odds ratio over its standard error; above 0 where simulated users say it more often."""


def telling_words(
    simulated: Sequence[Sequence[str]], real: Sequence[Sequence[str]]
) -> list[TellingWord]:
    """Words and pairs of words, from what only people say to what only simulated users say.

    Each side is a list of persons, each a list of texts; a person counts once for a word, however
    often they use it. z is Woolf's (1955) with Jeffreys' prior counts.
    """
    here, there = _users(simulated), _users(real)
    words = [w for w in here.keys() | there.keys() if max(here[w], there[w]) >= FEWEST_PERSONS]
    found = [
        TellingWord(
            word=word,
            simulated=round(here[word] / len(simulated), 4),
            real=round(there[word] / len(real), 4),
            z=round(log_odds_z((here[word], len(simulated)), (there[word], len(real))), 2),
        )
        for word in words
    ]
    return sorted(found, key=lambda w: (w["z"], w["word"]))


def log_odds_z(left: tuple[int, int], right: tuple[int, int]) -> float:
    """Log odds ratio of two (count, of) over its standard error; above 0 where left is larger."""
    (a, m), (b, n) = left, right
    cells = [count + PRIOR for count in (a, m - a, b, n - b)]
    ratio = math.log(cells[0] / cells[1]) - math.log(cells[2] / cells[3])
    return ratio / math.sqrt(sum(1 / cell for cell in cells))


def _users(persons: Sequence[Sequence[str]]) -> Counter[str]:
    """How many persons use each word or pair of words, case ignored."""
    counts: Counter[str] = Counter()
    for texts in persons:
        said: set[str] = set()
        for text in texts:
            words = tokens(text.lower())
            said.update(words, (f"{a} {b}" for a, b in pairwise(words)))
        counts.update(said)
    return counts
