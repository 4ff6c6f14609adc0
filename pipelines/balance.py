"""Balance: no opener, intent or persona too often, and rounds as people have them. Off by default.

Deduplication asks whether two conversations are the same; balance asks whether the corpus as a
whole leans. Who stays is decided by a hash of the ids, so that it neither depends on the order nor
favours long or short conversations.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from usersim.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Naming = Callable[[NDArray[np.int64]], str]


class BalanceSettings(Settings):
    """Caps, and the shape that rounds are to have; null leaves things as they came."""

    max_per_opener_cluster: int | None = Field(
        None, ge=1, description="conversations whose openers are alike (by `opener_similarity`)"
    )
    opener_similarity: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Jaccard of the shingles of `dedup` at which openers are one cluster",
    )
    max_per_intent: int | None = Field(None, ge=1, description="conversations of one intent")
    max_per_persona: int | None = Field(None, ge=1, description="conversations of one persona")
    rounds: Literal["as_they_come", "as_people"] | dict[PositiveInt, PositiveFloat] = Field(
        "as_they_come",
        description="as_people: no number of rounds far above its share among people; or shares of"
        " your own, as {1: 0.5, 2: 0.3, 3: 0.2}",
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

    @property
    def limits(self) -> bool:
        """Whether anything is capped, or rounds are to have shares of one's own."""
        caps = (self.max_per_opener_cluster, self.max_per_intent, self.max_per_persona)
        return isinstance(self.rounds, dict) or any(cap is not None for cap in caps)


@dataclass(frozen=True, slots=True)
class Members:
    """What balance needs to know of conversations, in columns: 25 bytes a row."""

    draw: "NDArray[np.uint64]"
    """A hash of the id: who stays is decided by it."""
    rounds: "NDArray[np.int32]"
    intent: "NDArray[np.int32]"
    """Numbers of `names`; -1 for none."""
    persona: "NDArray[np.int32]"
    names: "pa.Array"


@dataclass(frozen=True, slots=True)
class Surplus:
    """Which of the members go, and why."""

    why: "NDArray[np.int32]"
    """By member the position in `told`; -1 for those that stay."""
    told: list[tuple[str, str]]
    """Reasons with their details."""

    def add(self, positions: "NDArray[np.int64]", reason: str, detail: str) -> None:
        """Let some more go."""
        self.why[positions] = len(self.told)
        self.told.append((reason, detail))


def surplus(
    members: Members,
    settings: BalanceSettings,
    people: Mapping[int, int] | None = None,
    clusters: "Callable[[], tuple[NDArray[np.int32], Naming]] | None" = None,
) -> Surplus:
    """Those that are too many.

    `people` counts the rounds of real people's conversations; those above the longest simulated one
    count with it, because there the simulation's cap stood. `clusters` gives by member the number
    of its opener's cluster, and what the cluster of some is called.
    """
    import numpy as np

    gone = Surplus(np.full(len(members.draw), -1, dtype=np.int32), [])
    order = np.argsort(members.draw, kind="stable")
    if settings.max_per_opener_cluster is not None and clusters:
        _cap(gone, order, "opener_cluster", settings.max_per_opener_cluster, *clusters())
    for reason, limit, column in (
        ("intent_cap", settings.max_per_intent, members.intent),
        ("persona_cap", settings.max_per_persona, members.persona),
    ):
        if limit is not None:
            _cap(gone, order, reason, limit, column, partial(_named, column, members.names))
    wanted = people if settings.rounds == "as_people" else settings.rounds
    if isinstance(wanted, Mapping) and wanted:
        _over_represented(gone, order, members.rounds, wanted, settings.max_excess)
    return gone


def _cap(
    gone: Surplus,
    order: "NDArray[np.int64]",
    reason: str,
    limit: int,
    column: "NDArray[np.int32]",
    name: "Naming",
) -> None:
    """Of each group of a column the first `limit` in that order stay; -1 is no group."""
    import numpy as np

    left = order[(gone.why[order] < 0) & (column[order] >= 0)]
    groups = left[np.argsort(column[left], kind="stable")]
    starts = np.flatnonzero(np.diff(column[groups], prepend=-1))
    for members in np.split(groups, starts[1:]):
        if len(members) > limit:
            gone.add(members[limit:], reason, f"more than {limit} of {name(members)}")


def _named(column: "NDArray[np.int32]", names: "pa.Array", members: "NDArray[np.int64]") -> str:
    return str(names[int(column[members[0]])])


def _over_represented(
    gone: Surplus,
    order: "NDArray[np.int64]",
    rounds: "NDArray[np.int32]",
    people: Mapping[int, float],
    excess: float,
) -> None:
    import numpy as np

    left = order[gone.why[order] < 0]
    sizes = dict(zip(*(found.tolist() for found in np.unique(rounds[left], return_counts=True)),
                     strict=True))  # fmt: skip
    for number, wanted in kept_by_rounds(sizes, people, excess).items():
        members = left[rounds[left] == number][wanted:]
        if len(members):
            gone.add(members, "round_balance", f"{number} rounds: {wanted} of {sizes[number]}")


def kept_by_rounds(
    sizes: Mapping[int, int], people: Mapping[int, float], excess: float
) -> dict[int, int]:
    """How many conversations of each number of rounds stay.

    The most for which no share is above `excess` times its share among people (but for the fraction
    of a conversation). Compared are the people who talked as long as any of these did: where nobody
    was let go before four rounds, people with fewer say nothing. Numbers of rounds that people
    never have stay away altogether; nothing goes where people have none of these.
    """
    top = max(sizes, default=0)
    capped: dict[int, float] = defaultdict(float)
    for rounds, count in people.items():
        capped[min(rounds, top)] += count
    comparable = sum(capped[rounds] for rounds in sizes)
    if not comparable:
        return dict(sizes)
    shares = {rounds: capped[rounds] / comparable for rounds in sizes}
    kept, total = dict(sizes), -1
    while total != sum(kept.values()):  # fewer in all lower every limit: sinks until it stands
        total = sum(kept.values())
        kept = {
            rounds: min(size, math.ceil(excess * shares[rounds] * total - 1e-9))
            for rounds, size in kept.items()
        }
    return kept
