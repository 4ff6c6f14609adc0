"""Splits scripts by character: whom the test shows, training has never met.

Characters who share a name, or lead nearly the same life, go to one side together. A script in
which people of both sides meet goes to neither, and so does a training script that is a
near-duplicate of a test script. Nothing vanishes: `mixed` and `alike` hold what was left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from usersim.neardup import Pair, clusters, near_duplicate_pairs
from usersim.personas.factory import near_duplicates
from usersim.personas.schema import Persona
from usersim.personas.script import Script
from usersim.shingling import Shingling


@dataclass(frozen=True, slots=True)
class Split:
    """Scripts of characters to learn, of others to be tested on, and what leaks between them."""

    train: list[Script]
    test: list[Script]
    mixed: list[Script]
    alike: list[Script]
    unseen: frozenset[str]
    """Names of the test's characters."""

    def figures(self) -> dict[str, int]:
        """How many of each."""
        return {
            "train": len(self.train),
            "test": len(self.test),
            "mixed": len(self.mixed),
            "alike": len(self.alike),
            "unseen_characters": len(self.unseen),
        }


def split_by_character(
    personas: Sequence[Persona], scripts: Sequence[Script], test_share: float, seed: int
) -> Split:
    """The split; about `test_share` of the characters, never all of them, are unseen in training.

    Near-duplicates are at 0.6 for lives (two-word shingles), 0.5 for texts (three-word shingles).
    """
    unseen = frozenset(personas[i].name for i in _unseen(personas, test_share, seed))
    train: list[Script] = []
    test: list[Script] = []
    mixed: list[Script] = []
    for script in scripts:
        known = [name in unseen for name in script.speakers]
        if known[0]:
            test.append(script)
        else:
            (mixed if any(known) else train).append(script)
    leaks = _leaks(train, test)
    kept = [s for i, s in enumerate(train) if i not in leaks]
    alike = [s for i, s in enumerate(train) if i in leaks]
    return Split(kept, test, mixed, alike, unseen)


def _unseen(personas: Sequence[Persona], share: float, seed: int) -> list[int]:
    groups = _groups(personas)
    Random(f"{seed}:split").shuffle(groups)
    wanted, chosen = share * len(personas), list[int]()
    for group in groups[:-1]:  # the last group is always learned
        if len(chosen) + len(group) / 2 <= wanted:
            chosen += group
    return chosen


def _groups(personas: Sequence[Persona]) -> list[list[int]]:
    """Positions of people who must stay together, by name or by life."""
    first: dict[str, int] = {}
    same_name = []
    for i, persona in enumerate(personas):
        left = first.setdefault(persona.name.casefold(), i)
        if left != i:
            same_name.append(Pair(left, i, 1.0))
    return clusters(len(personas), [*same_name, *near_duplicates(personas, 0.6)])


def _leaks(train: Sequence[Script], test: Sequence[Script]) -> set[int]:
    """Positions of training scripts that are near-duplicates of a test script, or of such a one."""
    texts = ["\n".join(u.content for u in s.utterances) for s in (*train, *test)]
    alike = clusters(len(texts), near_duplicate_pairs(texts, 0.5, Shingling(3)))
    leaking = [group for group in alike if group[-1] >= len(train)]
    return {i for group in leaking for i in group if i < len(train)}
