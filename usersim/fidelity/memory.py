"""Memorisation: what simulated users repeat of training people; personal data that comes out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from usersim import personal_data
from usersim.conversation import Conversation
from usersim.fidelity.persons import Person, conversations_of
from usersim.fidelity.shares import share_figure
from usersim.overlap import RunIndex

SIMILAR = 0.8
SHINGLE_WORDS = 3
VERBATIM_WORDS = 8

DEFINITIONS = {
    "openers": f"share of openers within {SIMILAR} Jaccard (runs of {SHINGLE_WORDS} words) of a "
    "training person's opener; the floor is the share among held-out people",
    "turns": "the same for all user turns, of any training turn",
    "longest": f"the longest stretch of words, {VERBATIM_WORDS} or more, every run of "
    f"{VERBATIM_WORDS} of which is in some training turn; median and most over conversations",
    "personal_data": "share of conversations in whose user turns something has the form of an "
    "e-mail address, telephone number, card, account, address or secret; kinds: how many",
}


class TrainingTurns:
    """The user turns of the people a model learned from, ready to be asked about."""

    def __init__(self, people: Sequence[Conversation]) -> None:
        turns = [turn for c in people for turn in c.user_turns]
        self._openers = RunIndex([c.opener for c in people], SHINGLE_WORDS)
        self._turns = RunIndex(turns, SHINGLE_WORDS)
        self._long = RunIndex(turns, VERBATIM_WORDS)

    def repeated_openers(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """1 for each conversation whose opener is a training person's, or nearly."""
        return [[yes] for yes in _near(self._openers, [c.opener for c in conversations])]

    def repeated_turns(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """1 for each user turn that is a training turn, or nearly; a list a conversation."""
        found = iter(_near(self._turns, [t for c in conversations for t in c.user_turns]))
        return [[next(found) for _ in c.user_turns] for c in conversations]

    def longest(self, conversations: Sequence[Conversation]) -> list[int]:
        """Words of each conversation's longest stretch out of training turns; 0 below eight."""
        turns = [t for c in conversations for t in c.user_turns]
        lengths = iter(self._long.longest(turns).tolist())
        return [
            max(n if (n := next(lengths)) >= VERBATIM_WORDS else 0 for _ in c.user_turns)
            for c in conversations
        ]


def _near(index: RunIndex, texts: Sequence[str]) -> list[float]:
    sizes = index.shape.sets(texts).sizes.tolist()
    return [
        float(
            any(n >= SIMILAR * (size + int(index.sizes[owner]) - n) for owner, n in shared.items())
        )
        for size, shared in zip(sizes, index.shared(texts), strict=True)
    ]


def memory_figures(
    simulated: Sequence[Person],
    real: Sequence[Person],
    prompted: Sequence[Person],
    training: TrainingTurns,
) -> dict[str, Any]:
    """`openers`, `turns`: shares as in `shares.share_figure`; `longest` of each side."""
    sides = {"real": real, "simulated": simulated, "prompted": prompted}
    lengths = {
        name: sorted(training.longest(conversations_of(side)))
        for name, side in sides.items()
        if side
    }
    return {
        "openers": share_figure(simulated, real, prompted, training.repeated_openers),
        "turns": share_figure(simulated, real, prompted, training.repeated_turns),
        "longest": {
            name: {"most": found[-1], "median": found[len(found) // 2]}
            for name, found in lengths.items()
        },
        "definitions": DEFINITIONS,
    }


def personal_figures(
    simulated: Sequence[Person], real: Sequence[Person], prompted: Sequence[Person]
) -> dict[str, Any]:
    """A share as in `shares.share_figure`, and `kinds`: how many of each on the simulated side."""
    kinds = Counter(
        found.kind
        for c in conversations_of(simulated)
        for turn in c.user_turns
        for found in personal_data.find(turn)
    )
    return share_figure(simulated, real, prompted, _personal) | {
        "kinds": dict(sorted(kinds.items()))
    }


def _personal(conversations: Sequence[Conversation]) -> list[list[float]]:
    return [[float(any(map(personal_data.find, c.user_turns)))] for c in conversations]
