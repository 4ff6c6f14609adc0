"""Stage `learn_likeness`: a classifier learns what tells a user model's turns from people's.

UserGPT and the assistant hold a rehearsal: conversations as the run will hold them, in which every
user turn is drawn several times and one of the draws is taken blindly. All that were drawn are
learned against the turns of training people. Held-out people have no part in it, so that fidelity
can be measured on them afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from usersim.errors import InputError
from usersim.fidelity.auc import auc
from usersim.fidelity.classifiers import LinearModel
from usersim.journal import Journal
from usersim.likeness import PARTS, Likeness, noticed
from usersim.outcome import PASSED_OVER, records
from usersim.personas.cast import CastSettings
from usersim.plan import Agenda, SimulateSettings
from usersim.settings import Settings
from usersim.train import pick, read_people

FEWEST = 40
"""Turns of a side below which nothing can be learned."""
TESTED = 5
"""Every fifth person is left out when the area is measured, and learned from afterwards."""
LATER_TURNS = 3
"""Later turns of one person that are read; a few talk for a hundred rounds."""


class LikenessSettings(Settings):
    """Stage `learn_likeness`: what tells UserGPT's turns from people's."""

    conversations: int = Field(300, ge=FEWEST, description="conversations of the rehearsal")
    draws: int = Field(
        4, ge=2, le=64, description="draws of each of its user turns, all of which are learned from"
    )
    people_turns: int = Field(
        4000, ge=FEWEST, description="people's turns of each kind that they are held against"
    )


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns of one kind and side, and whose they are: a person's number, or a conversation's."""

    texts: list[str]
    whose: list[int]

    @classmethod
    def of(cls, found: Sequence[tuple[int, str]]) -> "Turns":
        """Turns by who typed them."""
        return cls([text for _, text in found], [who for who, _ in found])


def rehearsal(
    settings: LikenessSettings, simulated: SimulateSettings, blind: Path
) -> SimulateSettings:
    """The simulation that is learned from: free users, of whose draws one is taken by `blind`."""
    return simulated.model_copy(
        update={
            "conversations": settings.conversations,
            "shard_size": settings.conversations,
            "extended_at": (),
            "candidates": settings.draws,
            "likeness": str(blind),
            "given": (),
            "briefs": "",
            "cast": CastSettings(),
        }
    )


def learn_likeness(
    people: Mapping[str, Turns], agenda: Agenda, folder: Path, out: Path
) -> dict[str, Any]:
    """Learn from the rehearsal that was held in `folder`, write `out`; what was learned, by part.

    Each of `first` and `later` has `people` and `simulated` (turns) and `auc`: how well those of
    whom it did not learn from are told, 0.5 is not at all. Raises InputError with too few.
    """
    drawn = _drawn(agenda, folder)
    learned = {part: _learned(people[part], drawn[part], part) for part in PARTS}
    Likeness(*(model for model, _ in learned.values())).write(out)
    return {part: figures for part, (_, figures) in learned.items()}


def typed_by(people: Path, limit: int, seed: int) -> dict[str, Turns]:
    """Training people's turns: `limit` openers, and as many later ones.

    Raises InputError where there are too few to learn from.
    """
    persons = pick(read_people(people / "train.parquet"), limit, seed)
    first = [(n, c.opener) for n, c in enumerate(persons)]
    later = [(n, t) for n, c in enumerate(persons) for t in c.user_turns[1 : 1 + LATER_TURNS]]
    found = {"first": Turns.of(first), "later": Turns.of(later[:limit])}
    for part, turns in found.items():
        _check_enough(turns, "turns of people", part)
    return found


def _check_enough(turns: Turns, what: str, part: str) -> None:
    if len(turns.texts) < FEWEST:
        raise InputError(
            f"likeness: {len(turns.texts)} {what} ({part}), {FEWEST} are needed. More people, more"
            " likeness.conversations, or simulate.candidates=1"
        )


def _drawn(agenda: Agenda, folder: Path) -> dict[str, Turns]:
    """What the user model drew in the rehearsal, but for what a guard refused."""
    found: dict[str, list[tuple[int, str]]] = {part: [] for part in PARTS}
    for conversation, position, text in _could_stand(agenda, folder):
        found["later" if position else "first"].append((conversation, text))
    return {part: Turns.of(turns) for part, turns in found.items()}


def _could_stand(agenda: Agenda, folder: Path) -> Iterator[tuple[int, int, str]]:
    for shard in agenda.shards():
        with Journal(shard.journal(folder), agenda.owner(shard)) as journal:
            for record in records(journal):
                for made in record.attempts:
                    if made.role == "user" and made.reason in ("", PASSED_OVER):
                        yield made.conversation, made.position, made.text


def _learned(people: Turns, simulated: Turns, part: str) -> tuple[LinearModel, dict[str, Any]]:
    """The model of all turns, and how well one that learns from four fifths tells the others."""
    import numpy as np

    sizes = {"people": len(people.texts), "simulated": len(simulated.texts)}
    _check_enough(simulated, "simulated turns", part)
    counts = noticed([*people.texts, *simulated.texts])
    is_people = np.arange(sum(sizes.values())) < sizes["people"]
    tested = np.array([*people.whose, *simulated.whose]) % TESTED == 0
    known = LinearModel.fit([kind[~tested] for kind in counts], is_people[~tested])
    scores = known.log_odds([kind[tested] for kind in counts])
    area = auc(scores, is_people[tested], np.zeros(int(tested.sum()), dtype=np.int64))
    return LinearModel.fit(counts, is_people), {**sizes, "auc": area}
