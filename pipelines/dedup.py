"""Duplicates among conversations, by four units of a chat; the best of each stays.

Exact repeats go first (cheap), near-duplicates after. Decisions do not depend on the order of the
records, on the files they lie in or on who compares them: the best is the one with the longest user
side, then with the fewest faults, then the smallest id, and a record is dropped only for a *kept*
one that it truly resembles, never for resembling something dropped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.dedup_index import kept_earlier
from pipelines.near import Loadable, Resemblance, joined, near_pairs, parts_at
from pipelines.semantic import SemanticSettings, semantic_pairs
from pipelines.spread import Spread, in_turn
from pipelines.traces import ALWAYS, UNITS, Traces, TraceShape
from usersim.conversation import Conversation
from usersim.neardup import Alike
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
    def resemblances(self) -> list[Resemblance]:
        """The units that are compared."""
        thresholds = (
            self.opener_threshold,
            self.first_round_threshold,
            self.conversation_threshold,
            self.dialogue_threshold,
        )
        shape = Shingling(self.shingle_words)
        return [
            Resemblance(unit, threshold, self.user_floor, shape)
            for unit, threshold in zip(UNITS, thresholds, strict=True)
            if threshold is not None
        ]

    @property
    def shape(self) -> TraceShape:
        """What must be remembered of each conversation."""
        compared = {each.unit for each in self.resemblances}
        units = tuple(unit for unit in UNITS if unit in compared or unit in ALWAYS)
        return TraceShape(Shingling(self.shingle_words), units, self.semantic)


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


EXACT_REASONS = ("duplicate_id", "exact_duplicate", "same_opener")
NEAR_REASONS = {
    "opener": "near_duplicate_opener",
    "first_round": "near_duplicate_first_round",
    "user_side": "near_duplicate_conversation",
    "dialogue": "near_duplicate_dialogue",
}
SEMANTIC_REASON = "semantic_duplicate"
REASONS = (*EXACT_REASONS, *NEAR_REASONS.values(), SEMANTIC_REASON)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The rows that go, in columns: 33 bytes each, and the ids of those that they name.

    A place is a row's number when the parts are laid end to end.
    """

    places: "NDArray[np.int64]"
    """Sorted."""
    reasons: "NDArray[np.int8]"
    """Positions in REASONS."""
    similarities: "NDArray[np.float64]"
    kept: "NDArray[np.int64]"
    """Place of the kept row that each resembles."""
    clusters: "NDArray[np.int64]"
    """Place of the best row of each one's cluster."""
    named: "NDArray[np.int64]"
    """The places that `kept` and `clusters` hold, each once."""
    ids: "pa.Array"
    """Theirs."""

    def between(self, start: int, stop: int) -> dict[int, Duplicate]:
        """Those at the places from `start` to before `stop`, by place."""
        import numpy as np

        low, high = np.searchsorted(self.places, [start, stop])
        part = slice(low, high)
        kept, clusters = (
            self.ids.take(np.searchsorted(self.named, column[part])).to_pylist()
            for column in (self.kept, self.clusters)
        )
        columns = (self.places[part].tolist(), self.reasons[part].tolist(), kept)
        rows = zip(*columns, self.similarities[part].tolist(), clusters, strict=True)
        return {
            place: Duplicate(REASONS[reason], kept_id, similarity, cluster)
            for place, reason, kept_id, similarity, cluster in rows
        }


def deduplicate(
    candidates: Sequence[Candidate], settings: DedupSettings, spread: Spread = in_turn
) -> dict[int, Duplicate]:
    """The duplicates among candidates, by position; every other candidate is kept.

    What resembles a conversation of `settings.against` goes too. Raises InputError when one of
    those cannot be read.
    """
    conversations = [candidate.conversation for candidate in candidates]
    own = Traces.of(conversations, [c.faults for c in candidates], settings.shape)
    old = kept_earlier(settings.against, settings.shape)
    before = sum(part.num_rows for part in old)
    found = duplicates_among([*old, own], settings, spread).between(before, before + len(own))
    return {place - before: duplicate for place, duplicate in found.items()}


def duplicates_among(
    parts: Sequence[Loadable],
    settings: DedupSettings,
    spread: Spread = in_turn,
    among: "NDArray[np.bool_] | None" = None,
) -> Duplicates:
    """The duplicates among the rows of parts, or among those at the places `among`.

    Rows are visited best first, those kept earlier before all; one goes when any test finds a kept
    one that it is alike to, and the first such test (in the order of REASONS) names the reason. A
    chain a-b-c, in which a and c are not alike, so keeps a and c if a is the best.

    Memory, besides the signatures, which stay on disk: some 90 bytes a row, while rows are ranked
    and while a band's keys are sorted, and 100 bytes a row that anything resembles.
    """
    import numpy as np

    is_old = np.concatenate([np.full(part.num_rows, part.is_old) for part in parts])
    order = _by_rank(parts, is_old, among)
    rows = _Rows.of(parts, order, settings, spread)
    tests, matches, scores = rows.visited(is_old[order[rows.ranks]])
    gone = np.flatnonzero(tests >= 0)
    best = _best_alike(len(rows.ranks), rows.edges, np.column_stack([gone, matches[gone]]))
    places = order[rows.ranks]
    gone = gone[np.argsort(places[gone])]
    reasons = np.array([REASONS.index(name) for name in rows.reasons], dtype=np.int8)[tests[gone]]
    kept, clusters = places[matches[gone]], places[best[gone]]
    named = np.union1d(kept, clusters)
    return Duplicates(
        places[gone], reasons, scores[gone], kept, clusters, named, _ids(parts, named)
    )


@dataclass(slots=True)
class _Rows:
    """The rows that may be alike to another, in the order of their ranks, and to whom they are."""

    ranks: "NDArray[np.int64]"
    reasons: list[str]
    """What the tests are called, the first one first."""
    groups: "NDArray[np.int32]"
    """By test and row: the best row that it repeats, or itself."""
    alike: list[Alike]
    """By test: pairs of rows."""
    allowed: "NDArray[np.int32]"
    """By test and row: how many of its group may stay."""

    @classmethod
    def of(
        cls,
        parts: Sequence[Loadable],
        order: "NDArray[np.int64]",
        settings: DedupSettings,
        spread: Spread,
    ) -> "_Rows":
        import numpy as np

        is_long = joined(parts, "opener_words")[order] > settings.short_opener_words
        groups: dict[str, NDArray[np.int32]] = {}
        found: dict[str, Alike] = {}
        for reason, name in zip(EXACT_REASONS, ("id_hash", "user_side", "opener"), strict=True):
            groups[reason] = _groups(joined(parts, name)[order])
        for reason, unit, pairs_of in _searches(parts, settings):
            may = is_long if unit in ("opener", "first_round") else None
            groups[reason] = _groups(joined(parts, unit)[order], may)
            own = groups[reason] == np.arange(len(order))
            own = np.flatnonzero(own if may is None else own & may)
            pairs = pairs_of(order[own], spread)
            found[reason] = Alike(own[pairs.pairs], pairs.jaccard)
        concerned = np.zeros(len(order), dtype=bool)
        for reason, group in groups.items():
            concerned |= np.bincount(group, minlength=len(group))[group] > 1
            if reason in found:
                concerned |= np.isin(group, found[reason].pairs)
        ranks = np.flatnonzero(concerned)
        none = Alike(np.empty((0, 2), dtype=np.int64), np.empty(0))
        alike = [found.get(reason, none) for reason in groups]
        alike = [Alike(np.searchsorted(ranks, a.pairs), a.jaccard) for a in alike]
        held = np.array([np.searchsorted(ranks, g[ranks]) for g in groups.values()], dtype=np.int32)
        allowed = np.ones_like(held)
        allowed[2, ~is_long[ranks]] = settings.max_short_openers
        return cls(ranks, list(groups), held, alike, allowed)

    @property
    def edges(self) -> "NDArray[np.int64]":
        """Pairs of rows that any test found alike."""
        import numpy as np

        return np.concatenate([alike.pairs for alike in self.alike])

    def visited(
        self, stays: "NDArray[np.bool_]"
    ) -> "tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float64]]":
        """Of each row the test for which it goes (-1: none), the kept one, and the similarity."""
        import numpy as np

        from pipelines.dedup_kernel import visit

        size = len(self.ranks)
        starts, first = np.empty((len(self.alike), size + 1), dtype=np.int64), 0
        others, scores = [], []
        for test, alike in enumerate(self.alike):
            left = np.concatenate([alike.pairs[:, 0], alike.pairs[:, 1]])
            order = np.argsort(left, kind="stable")
            starts[test] = first + np.searchsorted(left[order], np.arange(size + 1))
            others.append(np.concatenate([alike.pairs[:, 1], alike.pairs[:, 0]])[order])
            scores.append(np.tile(alike.jaccard, 2)[order])
            first += len(left)
        near = starts, np.concatenate(others), np.concatenate(scores)
        told = np.empty(size, np.int8), np.zeros(size, np.int32), np.zeros(size)
        visit(self.groups, self.allowed, stays, near, told)
        return told


Search = Callable[["NDArray[np.int64]", Spread], Alike]
"""Pairs among places."""


def _searches(
    parts: Sequence[Loadable], settings: DedupSettings
) -> Iterator[tuple[str, str, Search]]:
    """What is looked for after exact repeats: reason, unit, and who finds the pairs."""
    for resemblance in settings.resemblances:
        yield (
            NEAR_REASONS[resemblance.unit],
            resemblance.unit,
            partial(near_pairs, parts, resemblance),
        )
    if settings.semantic.model:
        search = partial(semantic_pairs, parts, settings.semantic.threshold)
        yield SEMANTIC_REASON, settings.semantic.unit, search


def _by_rank(
    parts: Sequence[Loadable], is_old: "NDArray[np.bool_]", among: "NDArray[np.bool_] | None"
) -> "NDArray[np.int64]":
    """Places, the best first: kept earlier, longest user side, fewest faults, id, record."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = ("user_side_words", "faults", "id", "record")
    table = pa.table(
        {name: _column(parts, name) for name in names} | {"old": is_old.astype("int8")}
    )
    keys = [
        ("old", "descending"),
        ("user_side_words", "descending"),
        ("faults", "ascending"),
        ("id", "ascending"),
        ("record", "ascending"),
    ]
    order: NDArray[np.int64] = pc.sort_indices(table, sort_keys=keys).to_numpy().astype("int64")
    return order if among is None else order[among[order]]


def _column(parts: Sequence[Loadable], name: str) -> "pa.ChunkedArray":
    import pyarrow as pa

    chunks = [chunk for part in parts for chunk in part.column(name).chunks]
    return pa.chunked_array(chunks, type=parts[0].column(name).type)


def _ids(parts: Sequence[Loadable], places: "NDArray[np.int64]") -> "pa.Array":
    """The ids at sorted places."""
    import pyarrow as pa

    found = [part.column("id").take(rows) for part, rows in parts_at(parts, places)]
    chunks = [chunk for column in found for chunk in column.chunks]
    return pa.chunked_array(chunks, type=pa.string()).combine_chunks()


def groups_alike(
    parts: Sequence[Loadable], resemblance: Resemblance, places: "NDArray[np.int64]", spread: Spread
) -> "NDArray[np.int64]":
    """For each of some places the position of the first one that it is alike to, if by others."""
    import numpy as np

    groups = _groups(joined(parts, resemblance.unit)[places])
    own = np.flatnonzero(groups == np.arange(len(groups)))
    pairs = near_pairs(parts, resemblance, places[own], spread).pairs
    found: NDArray[np.int64] = own[_best_alike(len(own), pairs)[np.searchsorted(own, groups)]]
    return found


def _groups(
    values: "NDArray[np.int64]", may: "NDArray[np.bool_] | None" = None
) -> "NDArray[np.int32]":
    """For each rank the best one with the same value; its own for those that may not be alike."""
    import numpy as np

    groups = np.arange(len(values), dtype=np.int32)
    members = groups if may is None else np.flatnonzero(may)
    _, first, inverse = np.unique(values[members], return_index=True, return_inverse=True)
    groups[members] = members[first[inverse]]
    return groups


def _best_alike(size: int, *edges: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """The first row of each row's connected component."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left, right = np.concatenate(edges).T
    graph = coo_matrix((np.ones(len(left), dtype=bool), (left, right)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[inverse]
    return found
