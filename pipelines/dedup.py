"""Duplicates among conversations, by four units of a chat; the best of each stays.

Exact repeats go first (cheap), near-duplicates after. Decisions do not depend on the order of the
records, on the files they lie in or on who compares them: the best is the one with the longest user
side, then with the fewest faults, then the smallest id, and a record is dropped only for a *kept*
one that it truly resembles, never for resembling something dropped.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from pipelines.dedup_index import kept_earlier
from pipelines.near import Likeness, Loadable, near_pairs
from pipelines.semantic import SemanticSettings, semantic_pairs
from pipelines.spread import Spread, in_turn
from pipelines.traces import UNITS, Traces, TraceShape
from usersim.conversation import Conversation
from usersim.neardup import Alike, Pair, clusters
from usersim.settings import Settings
from usersim.shingling import Shingling

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


class DedupSettings(Settings):
    """What counts as a duplicate. Jaccard similarities of word shingles; null turns a unit off.

    The user's thresholds were chosen on real people's openers and user sides with planted edits
    (docs/scale.md): at 0.6 on 3-word shingles 92 % of user sides with 5 % of the words edited are
    found, at 0.8 on 5-word shingles 4 %; 1.4 more in a hundred real openers pair with another.
    """

    shingle_words: int = Field(
        3, ge=1, description="words a shingle; 3 catches edits of 5-8 %, 5 only of 2 % (measured)"
    )
    opener_threshold: float | None = Field(
        0.6, gt=0, le=1, description="similarity at which two openers are the same"
    )
    first_round_threshold: float | None = Field(
        0.8, gt=0, le=1, description="the same for opener and first answer together"
    )
    conversation_threshold: float | None = Field(
        0.6, gt=0, le=1, description="the same for all that the user said"
    )
    dialogue_threshold: float | None = Field(
        0.8, gt=0, le=1, description="the same for all that both said"
    )
    user_floor: float = Field(
        0.5,
        ge=0,
        le=1,
        description="what the users' parts must reach too where answers count: boilerplate answers "
        "alone make no two conversations alike",
    )
    short_opener_words: int = Field(
        4, ge=0, description="openers up to this length (`hi`) may open several conversations"
    )
    max_short_openers: int = Field(
        5, ge=1, description="how many conversations one short opener may open"
    )
    semantic: SemanticSettings = Field(
        default_factory=SemanticSettings, description="the same in other words (extra `semantic`)"
    )
    against: tuple[Path, ...] = Field(
        (),
        description="runs, corpora or Parquet files kept earlier, or trained on: what resembles a "
        "conversation of theirs goes",
    )

    @property
    def likenesses(self) -> list[Likeness]:
        """The units that are compared."""
        thresholds = (
            self.opener_threshold,
            self.first_round_threshold,
            self.conversation_threshold,
            self.dialogue_threshold,
        )
        shape = Shingling(self.shingle_words)
        return [
            Likeness(unit, threshold, self.user_floor, shape)
            for unit, threshold in zip(UNITS, thresholds, strict=True)
            if threshold is not None
        ]

    @property
    def shape(self) -> TraceShape:
        """What must be remembered of each conversation."""
        num_perm = {each.unit: each.banding.num_perm for each in self.likenesses}
        return TraceShape(Shingling(self.shingle_words), num_perm, self.semantic)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Why a row goes: the reason, the id of the kept one, their similarity, and the cluster.

    A cluster is all that is alike, directly or through others; it is named by its best row's id.
    """

    reason: str
    kept_id: str
    similarity: float
    cluster: str

    def __str__(self) -> str:
        return f"kept={self.kept_id} similarity={self.similarity:.3f} cluster={self.cluster}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A conversation that may stay, and how many rules have something against it."""

    conversation: Conversation
    faults: int = 0

    @classmethod
    def of(cls, conversation: Conversation, faults: int = 0) -> "Candidate":
        """The candidate that stands for a conversation."""
        return cls(conversation, faults)


Match = tuple[int, float]
"""Rank of a kept row, and the similarity to it."""

EXACT_REASONS = ("duplicate_id", "exact_duplicate", "same_opener")
NEAR_REASONS = {
    "opener": "near_duplicate_opener",
    "first_round": "near_duplicate_first_round",
    "user_side": "near_duplicate_conversation",
    "dialogue": "near_duplicate_dialogue",
}
SEMANTIC_REASON = "semantic_duplicate"


class Test(Protocol):
    """One way to be alike, over rows that are visited by rank."""

    def match(self, rank: int) -> Match | None:
        """The kept row for which this one must go, or None."""
        ...

    def keep(self, rank: int) -> None:
        """Take note that this one stays."""
        ...


class Repeats:
    """Alike when the groups are equal; the first `allowed(rank)` of a group stay."""

    def __init__(self, groups: "NDArray[np.int64]", allowed: Callable[[int], int]) -> None:
        self._groups, self._allowed = groups, allowed
        self._kept: dict[int, list[int]] = defaultdict(list)

    def match(self, rank: int) -> Match | None:
        """The first of the kept ones, when there are as many as may be."""
        kept = self._kept[int(self._groups[rank])]
        return (kept[0], 1.0) if len(kept) >= self._allowed(rank) else None

    def keep(self, rank: int) -> None:
        """Count this one."""
        self._kept[int(self._groups[rank])].append(rank)


class NearDuplicates:
    """Alike when their groups are one, or a verified pair."""

    def __init__(self, groups: "NDArray[np.int64]", alike: Alike) -> None:
        self._groups = groups
        self._alike: dict[int, dict[int, float]] = defaultdict(dict)
        for (left, right), score in zip(alike.pairs.tolist(), alike.jaccard.tolist(), strict=True):
            self._alike[left][right] = self._alike[right][left] = score
        self._kept: dict[int, int] = {}

    def match(self, rank: int) -> Match | None:
        """The most similar of the kept ones; between equals the best one."""
        group = int(self._groups[rank])
        if group in self._kept:
            return self._kept[group], 1.0
        near = self._alike.get(group, {})
        kept = [(self._kept[other], score) for other, score in near.items() if other in self._kept]
        return min(kept, key=lambda match: (-match[1], match[0]), default=None)

    def keep(self, rank: int) -> None:
        """Let this one stand for its group."""
        self._kept.setdefault(int(self._groups[rank]), rank)


@dataclass(slots=True)
class _Visit:
    """The rows by rank, what is asked of each, and which rows there is anything to ask of."""

    tests: dict[str, Test]
    concerned: "NDArray[np.bool_]"
    edges: list[tuple[int, int]]

    def dropped(self, is_old: "NDArray[np.bool_]") -> dict[int, tuple[str, Match]]:
        """Reason and match of every rank that goes."""
        import numpy as np

        found: dict[int, tuple[str, Match]] = {}
        for rank in np.flatnonzero(self.concerned).tolist():
            matches = ((reason, test.match(rank)) for reason, test in self.tests.items())
            reason, match = next(((r, m) for r, m in matches if m), ("", None))
            if match and not is_old[rank]:
                found[rank] = (reason, match)
                continue
            for test in self.tests.values():
                test.keep(rank)
        return found


def deduplicate(
    candidates: Sequence[Candidate], settings: DedupSettings, spread: Spread = in_turn
) -> dict[int, Duplicate]:
    """The duplicates among candidates, by position; every other candidate is kept.

    What resembles a conversation of `settings.against` goes too. Raises InputError when one of
    those cannot be read.
    """
    conversations = [candidate.conversation for candidate in candidates]
    own = Traces.of(conversations, [c.faults for c in candidates], settings.shape)
    return duplicates_of([own], settings, spread)


def duplicates_of(
    parts: Sequence[Loadable], settings: DedupSettings, spread: Spread = in_turn
) -> dict[int, Duplicate]:
    """The duplicates among the rows of parts and of what was kept earlier, by place in `parts`.

    Raises InputError when a path of `settings.against` cannot be read.
    """
    old = kept_earlier(settings.against, settings.shape)
    before = sum(len(part.load()) for part in old)
    found = duplicates_among([*old, *parts], settings, spread)
    return {place - before: duplicate for place, duplicate in found.items()}


def duplicates_among(
    parts: Sequence[Loadable], settings: DedupSettings, spread: Spread = in_turn
) -> dict[int, Duplicate]:
    """The duplicates among the rows of parts, by place; every other row is kept.

    A place is a row's number when the parts are laid end to end. Rows are visited best first, those
    kept earlier before all; one goes when any test finds a kept one that it is alike to, and the
    first such test (in the order of EXACT_REASONS and NEAR_REASONS) names the reason. A chain
    a-b-c, in which a and c are not alike, so keeps a and c if a is the best.

    Memory: about 150 bytes a row, besides the signatures, which stay on disk, and two bands' keys.
    """
    table, is_old = _joined(parts)
    order = _by_rank(table, is_old)
    ranked, is_old = table.take(order), is_old[order]
    visit = _visit(parts, ranked, order, settings, spread)
    dropped = visit.dropped(is_old)
    names = _clusters([*visit.edges, *((match[0], rank) for rank, (_, match) in dropped.items())])
    ids = ranked["id"]
    return {
        int(order[rank]): Duplicate(
            reason, ids[match[0]].as_py(), match[1], ids[names[rank]].as_py()
        )
        for rank, (reason, match) in dropped.items()
    }


def _visit(
    parts: Sequence[Loadable],
    ranked: "pa.Table",
    order: "NDArray[np.int64]",
    settings: DedupSettings,
    spread: Spread,
) -> _Visit:
    import numpy as np

    everything = np.ones(len(order), dtype=bool)
    is_long = ranked["opener_words"].to_numpy() > settings.short_opener_words
    several = np.where(is_long, 1, settings.max_short_openers)
    exact = {
        "id": ranked["id"].combine_chunks().dictionary_encode().indices.to_numpy(),
        "user_side": ranked["user_side"].to_numpy(),
        "opener": ranked["opener"].to_numpy(),
    }
    groups = {name: _groups(values, everything) for name, values in exact.items()}
    allowed: list[Callable[[int], int]] = [lambda _: 1, lambda _: 1, lambda r: int(several[r])]
    visit = _Visit({}, _repeated(groups.values()), [])
    for reason, group, each in zip(EXACT_REASONS, groups.values(), allowed, strict=True):
        visit.tests[reason] = Repeats(group, each)
    for reason, unit, pairs_of in _searches(parts, settings):
        may = is_long if unit in ("opener", "first_round") else everything
        group = _groups(ranked[unit].to_numpy(), may)
        own = np.flatnonzero((group == np.arange(len(group))) & may)
        found = pairs_of(order[own], spread)
        alike = Alike(own[found.pairs], found.jaccard)
        visit.tests[reason] = NearDuplicates(group, alike)
        visit.concerned |= np.isin(group, alike.pairs) | _repeated([group])
        visit.edges += map(tuple, alike.pairs.tolist())
    return visit


Search = Callable[["NDArray[np.int64]", Spread], Alike]
"""Pairs among places."""


def _searches(
    parts: Sequence[Loadable], settings: DedupSettings
) -> Iterator[tuple[str, str, Search]]:
    """What is looked for after exact repeats: reason, unit, and who finds the pairs."""
    for likeness in settings.likenesses:
        yield NEAR_REASONS[likeness.unit], likeness.unit, partial(near_pairs, parts, likeness)
    if settings.semantic.model:
        search = partial(semantic_pairs, parts, settings.semantic.threshold)
        yield SEMANTIC_REASON, settings.semantic.unit, search


def _joined(parts: Sequence[Loadable]) -> "tuple[pa.Table, NDArray[np.bool_]]":
    """The tables of all parts end to end, and which rows were kept earlier."""
    import numpy as np
    import pyarrow as pa

    loaded = [part.load() for part in parts]
    is_old = [np.full(len(traces), traces.is_old) for traces in loaded]
    return pa.concat_tables([traces.table for traces in loaded]), np.concatenate(is_old)


def _by_rank(table: "pa.Table", is_old: "NDArray[np.bool_]") -> "NDArray[np.int64]":
    """Places, the best first: kept earlier, longest user side, fewest faults, id, record."""
    import pyarrow.compute as pc

    keys = [
        ("old", "descending"),
        ("user_side_words", "descending"),
        ("faults", "ascending"),
        ("id", "ascending"),
        ("record", "ascending"),
    ]
    order: NDArray[np.int64] = pc.sort_indices(
        table.append_column("old", [is_old.astype("int8")]), sort_keys=keys
    ).to_numpy()
    return order.astype("int64")


def _groups(values: "NDArray[np.int64]", may: "NDArray[np.bool_]") -> "NDArray[np.int64]":
    """For each rank the best one with the same value; its own for those that may not be alike."""
    import numpy as np

    groups, members = np.arange(len(values)), np.flatnonzero(may)
    _, first, inverse = np.unique(values[members], return_index=True, return_inverse=True)
    groups[members] = members[first[inverse]]
    return groups


def _repeated(groups: "Iterable[NDArray[np.int64]]") -> "NDArray[np.bool_]":
    """Which ranks share a group with another one."""
    import numpy as np

    found: NDArray[np.bool_] = np.logical_or.reduce(
        [np.bincount(group, minlength=len(group))[group] > 1 for group in groups]
    )
    return found


def _clusters(edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The best rank of each rank's connected component."""
    involved = sorted({rank for edge in edges for rank in edge})
    at = {rank: i for i, rank in enumerate(involved)}
    pairs = (Pair(at[left], at[right], 1.0) for left, right in edges)
    components = clusters(len(involved), pairs)
    return {involved[i]: involved[group[0]] for group in components for i in group}
