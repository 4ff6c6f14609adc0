"""Balance: no opener, intent or persona too often, and rounds as people have them. Off by default.

Deduplication asks whether two conversations are the same; balance asks whether the corpus as a
whole leans. Who stays is decided by a hash of the ids, so that it neither depends on the order nor
favours long or short conversations.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from usersim.conversation import Conversation
from usersim.neardup import clusters, near_duplicate_pairs
from usersim.settings import Settings
from usersim.shingling import Shingling
from usersim.surface import stable_hash


class BalanceSettings(Settings):
    """Caps, and the shape that rounds are to have; null leaves things as they came."""

    max_per_opener_cluster: int | None = Field(
        None, ge=1, description="conversations whose openers are alike (by `opener_similarity`)"
    )
    opener_similarity: float = Field(
        0.4, gt=0, le=1, description="Jaccard of three-word runs at which openers are one cluster"
    )
    max_per_intent: int | None = Field(None, ge=1, description="conversations of one intent")
    max_per_persona: int | None = Field(None, ge=1, description="conversations of one persona")
    rounds: Literal["as_they_come", "as_people"] | dict[PositiveInt, PositiveFloat] = Field(
        "as_they_come",
        description="as_people: no number of rounds far above its share there; or shares of your"
        " own, as {1: 0.5, 2: 0.3, 3: 0.2}",
    )
    drop_most_tellable: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="share that goes because a classifier tells it most surely from people "
        "(pipelines.realism); for corpora of 50 to 20,000 conversations",
    )
    max_excess: float = Field(
        1.25, ge=1, description="how far above such a share, as a ratio; 1 matches exactly"
    )


@dataclass(frozen=True, slots=True)
class Member:
    """What balance needs to know of a conversation."""

    id: str
    opener: str
    rounds: int
    intent: str | None = None
    persona: str | None = None

    @classmethod
    def of(cls, conversation: Conversation) -> "Member":
        """The member that stands for a conversation."""
        c = conversation
        return cls(c.id, c.opener, c.num_rounds, c.intent_id, c.persona_id)


@dataclass(frozen=True, slots=True)
class Surplus:
    """Why a conversation goes."""

    reason: str
    detail: str


def surplus(
    members: Sequence[Member], settings: BalanceSettings, people: Mapping[int, int] | None = None
) -> dict[int, Surplus]:
    """The positions that go, each with its reason.

    `people` counts the rounds of real people's conversations; those above the longest simulated one
    count with it, because there the simulation's cap stood.
    """
    order = sorted(range(len(members)), key=lambda i: (stable_hash(members[i].id), i))
    gone: dict[int, Surplus] = {}
    for reason, limit, groups in _caps(members, settings):
        kept: Counter[Hashable] = Counter()
        for position in order:
            group = groups(position)
            if position in gone or group is None:
                continue
            if kept[group] >= limit:
                gone[position] = Surplus(reason, f"more than {limit} of {group}")
            else:
                kept[group] += 1
    wanted = people if settings.rounds == "as_people" else settings.rounds
    if isinstance(wanted, Mapping) and wanted:
        left = [position for position in order if position not in gone]
        gone |= _over_represented(members, left, wanted, settings.max_excess)
    return gone


Cap = tuple[str, int, Callable[[int], Hashable]]


def _caps(members: Sequence[Member], settings: BalanceSettings) -> list[Cap]:
    caps: list[Cap] = []
    if settings.max_per_opener_cluster is not None:
        cluster = _opener_clusters(members, settings.opener_similarity)
        caps.append(("opener_cluster", settings.max_per_opener_cluster, cluster.__getitem__))
    if settings.max_per_intent is not None:
        caps.append(("intent_cap", settings.max_per_intent, lambda i: members[i].intent))
    if settings.max_per_persona is not None:
        caps.append(("persona_cap", settings.max_per_persona, lambda i: members[i].persona))
    return caps


def _opener_clusters(members: Sequence[Member], similarity: float) -> list[str]:
    """For each member the cluster of its opener, named by the smallest id in it."""
    pairs = near_duplicate_pairs([m.opener for m in members], similarity, Shingling(3))
    names = [""] * len(members)
    for group in clusters(len(members), pairs):
        name = f"the cluster of {min(members[i].id for i in group)}"
        for i in group:
            names[i] = name
    return names


def _over_represented(
    members: Sequence[Member], order: Sequence[int], people: Mapping[int, float], excess: float
) -> dict[int, Surplus]:
    by_rounds: dict[int, list[int]] = defaultdict(list)
    for position in order:
        by_rounds[members[position].rounds].append(position)
    sizes = {rounds: len(positions) for rounds, positions in by_rounds.items()}
    wanted = kept_by_rounds(sizes, people, excess)
    return {
        position: Surplus("round_balance", f"{rounds} rounds: {wanted[rounds]} of {sizes[rounds]}")
        for rounds, positions in by_rounds.items()
        for position in positions[wanted[rounds] :]
    }


def kept_by_rounds(
    sizes: Mapping[int, int], people: Mapping[int, float], excess: float
) -> dict[int, int]:
    """How many conversations of each number of rounds stay.

    The most for which no share is above `excess` times its share among people (but for the fraction
    of a conversation). Numbers of rounds that people never have stay away altogether; nothing goes
    where people have none of these.
    """
    top = max(sizes, default=0)
    capped: dict[int, float] = defaultdict(float)
    for rounds, count in people.items():
        capped[min(rounds, top)] += count
    shares = {rounds: capped[rounds] / sum(capped.values()) for rounds in sizes} if capped else {}
    if not any(shares.values()):
        return dict(sizes)
    kept, total = dict(sizes), -1
    while total != sum(kept.values()):  # fewer in all lower every limit: sinks until it stands
        total = sum(kept.values())
        kept = {
            rounds: min(size, math.ceil(excess * shares[rounds] * total - 1e-9))
            for rounds, size in kept.items()
        }
    return kept
