"""How much like people's the user turns of a conversation are, by a classifier that never saw them.

Discriminator rejection sampling (Azadi et al. 2019): a classifier learns to tell simulated from
real user turns, and what it tells most surely is left out. Scores are cross-fitted: a conversation
is scored by a model that was trained on others, else the most telling would be the best learned.
The people are those the simulator learned from, never those that fidelity is measured on.
"""

from collections.abc import Sequence

from usersim.conversation import Conversation
from usersim.errors import InputError
from usersim.fidelity.classifiers import LinearClassifier
from usersim.surface import stable_hash

FOLDS = 5
MOST_TURNS = 4
"""User turns of a conversation that are read: later ones say little more."""
MOST_PEOPLE = 4000
FEWEST, MOST = 50, 20_000
"""Conversations below which nothing can be learned, and above which it would not fit in memory."""


def check_fits(number: int) -> None:
    """Raise InputError for more conversations than can be read at once."""
    if number > MOST:
        raise InputError(
            f"curate.balance.drop_most_tellable reads at most {MOST:,} conversations, these are "
            f"{number:,}: set it to 0"
        )


def most_tellable(
    simulated: Sequence[Conversation], people: Sequence[Conversation], share: float
) -> dict[str, float]:
    """Ids and scores of the share of conversations that are told most surely from people.

    Nothing goes of fewer than FEWEST. The order does not matter. Raises InputError for more than
    MOST.
    """
    check_fits(len(simulated))
    ordered = sorted(simulated, key=lambda c: (stable_hash(c.id), c.id))
    scores = tellable(ordered, people)
    if scores is None:
        return {}
    ranked = sorted(zip(scores, ordered, strict=True), key=lambda pair: (-pair[0], pair[1].id))
    return {c.id: score for score, c in ranked[: int(share * len(ranked))]}


def tellable(
    simulated: Sequence[Conversation], people: Sequence[Conversation]
) -> list[float] | None:
    """For each simulated conversation the mean log odds that a user turn of it is simulated.

    None with fewer than FEWEST conversations on a side. People are drawn by a hash of their ids, as
    many as there are simulated ones, MOST_PEOPLE at most.
    """
    import numpy as np

    drawn = sorted(people, key=lambda c: stable_hash(c.id))[: min(len(simulated), MOST_PEOPLE)]
    if min(len(simulated), len(drawn)) < FEWEST:
        return None
    everyone = [*simulated, *drawn]
    turns = [(n, t) for n, c in enumerate(everyone) for t in c.user_turns[:MOST_TURNS]]
    owner = np.array([n for n, _ in turns], dtype=np.int64)
    is_simulated = owner < len(simulated)
    folds = np.array([stable_hash(c.id, salt=1) % FOLDS for c in everyone], dtype=np.int64)[owner]
    classifier = LinearClassifier([text for _, text in turns])
    scores = np.zeros(len(turns))
    for fold in range(FOLDS):
        train, asked = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        scores[asked] = classifier.scores(train, is_simulated[train], asked)
    sums = np.bincount(owner, weights=scores, minlength=len(everyone))
    counts = np.bincount(owner, minlength=len(everyone))
    means: list[float] = (sums / np.maximum(counts, 1))[: len(simulated)].tolist()
    return means
