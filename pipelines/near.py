"""Verified near-duplicates among the rows of many parts, in pieces that can be done anywhere.

Rows are ranked, the best first; a row that repeats a better one's words exactly is left to it. For
each band of the signatures the rows with equal keys are paired (the better with the worse), and the
pairs are verified by the true Jaccard similarity of their texts, which are read again for that.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.spread import Spread
from pipelines.traces import NUM_PERM, UNITS, USER_PART, Turns
from usersim.neardup import BUCKET, Alike, Banding, pairs_of_keys, unpacked
from usersim.progress import Track, track
from usersim.shingling import Shingling

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

PAIRS_AT_ONCE = 2_000  # verified by one task: bounds the texts in memory
SHOWN_FROM = 20_000  # rows; fewer are compared in a second or two
CANDIDATES = 500_000  # pairs that wait to be verified: bounds them to 30 MB


class Loadable(Protocol):
    """A part whose traces can be had: `traces.Part` on disk, `traces.Traces` in memory."""

    @property
    def turns(self) -> Callable[[Sequence[int]], list[Turns]]:
        """Gives the turns of some rows."""
        ...

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        ...

    @property
    def is_old(self) -> bool:
        """Whether its rows were kept earlier."""
        ...

    def column(self, name: str) -> "pa.ChunkedArray":
        """A column of its table."""
        ...

    def matrix(self, unit: str) -> "NDArray[Any]":
        """The signatures of one unit."""
        ...


@dataclass(frozen=True, slots=True)
class Resemblance:
    """When two rows are alike by one unit."""

    unit: str
    threshold: float
    user_floor: float
    """What the user's part must reach too, where the assistant's text counts."""
    shingling: Shingling
    recall: float = 0.999
    """Share of the pairs at the threshold that must be proposed."""

    @property
    def banding(self) -> Banding:
        """The bands that propose them."""
        return Banding.for_threshold(self.threshold, NUM_PERM, self.recall)


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows whose values from `first` on are compared; `places` are theirs, in the ranks' order."""

    parts: Sequence[Loadable]
    resemblance: Resemblance
    first: int
    places: "NDArray[np.int64]"

    def pairs(self) -> "NDArray[np.uint64]":
        """Packed pairs of positions in `places`."""
        import numpy as np

        from usersim import shingle_kernel as kernel

        rows = self.resemblance.banding.rows
        matrices = (part.matrix(self.resemblance.unit) for part in self.parts)
        keys = [kernel.band_keys(np.asarray(m), self.first, rows) for m in matrices]
        return pairs_of_keys(np.concatenate(keys)[self.places], BUCKET)


@dataclass(frozen=True, slots=True)
class _Doubtful:
    """Pairs of places to be verified."""

    parts: Sequence[Loadable]
    resemblance: Resemblance
    pairs: "NDArray[np.int64]"

    def scores(self) -> "NDArray[np.float64]":
        """Their Jaccard similarities; 0 where the user's parts differ too much."""
        import numpy as np

        likely = np.flatnonzero(self._may_reach())
        found = np.zeros(len(self.pairs), dtype=np.float64)
        if len(likely):
            involved, local = np.unique(self.pairs[likely], return_inverse=True)
            pairs = local.reshape(-1, 2)
            held = parts_at(self.parts, involved)
            turns = [each for part, rows in held for each in part.turns(rows.tolist())]
            found[likely] = self._similarities(turns, self.resemblance.unit, pairs)
            if part := USER_PART.get(self.resemblance.unit):
                floor = self.resemblance.user_floor
                found[likely] *= self._similarities(turns, part, pairs) >= floor
        return found

    def _similarities(
        self, turns: Sequence[Turns], unit: str, pairs: "NDArray[np.int64]"
    ) -> "NDArray[np.float64]":
        from usersim import shingle_kernel as kernel

        sets = self.resemblance.shingling.sets([UNITS[unit](each) for each in turns])
        scores: NDArray[np.float64] = kernel.jaccards((sets.values, sets.starts, sets.sizes), pairs)
        return scores

    def _may_reach(self) -> "NDArray[np.bool_]":
        """Whether signatures agree in no less than six standard deviations below what is expected.

        Expected at the threshold, that is: it loses one pair in 10^9.
        """
        import numpy as np

        from usersim import shingle_kernel as kernel

        involved, local = np.unique(self.pairs, return_inverse=True)
        unit, threshold = self.resemblance.unit, self.resemblance.threshold
        rows = [part.matrix(unit)[at] for part, at in parts_at(self.parts, involved)]
        found: NDArray[np.int64] = kernel.agreements(np.concatenate(rows), local.reshape(-1, 2))
        return found >= NUM_PERM * threshold - 6 * math.sqrt(NUM_PERM * threshold * (1 - threshold))


def near_pairs(
    parts: Sequence[Loadable], resemblance: Resemblance, places: "NDArray[np.int64]", spread: Spread
) -> Alike:
    """Verified pairs of positions in `places`, the rows to be compared, in the ranks' order.

    A place is a row's number when the parts are laid end to end.
    """
    import numpy as np

    packed, scores = np.empty(0, dtype=np.uint64), np.empty(0)
    for some, how_much in _verified(parts, resemblance, places, spread):
        packed, first = np.unique(np.concatenate([packed, some]), return_index=True)
        scores = np.concatenate([scores, how_much])[first]
    return Alike(unpacked(packed), scores)


def alike_share(
    parts: Sequence[Loadable], resemblance: Resemblance, among: "NDArray[np.bool_]", spread: Spread
) -> float | None:
    """Share of the rows at the places `among` that are alike to another of them; None without any.

    Memory: 40 bytes a row. Of a row that is known to be alike no further pair is verified.
    """
    import numpy as np

    places = np.flatnonzero(among)
    if not len(places):
        return None
    contents = joined(parts, resemblance.unit)[places]
    _, first, inverse, counts = np.unique(
        contents, return_index=True, return_inverse=True, return_counts=True
    )
    alike = counts > 1
    for packed, _ in _verified(parts, resemblance, places[first], spread, alike):
        alike[unpacked(packed).ravel()] = True
    return round(float(alike[inverse].mean()), 4)


def _verified(
    parts: Sequence[Loadable],
    resemblance: Resemblance,
    places: "NDArray[np.int64]",
    spread: Spread,
    settled: "NDArray[np.bool_] | None" = None,
) -> "Iterator[tuple[NDArray[np.uint64], NDArray[np.float64]]]":
    """Packed verified pairs of positions in `places`, and their similarities, in portions.

    Several portions may hold the same pair. Pairs of two positions that are `settled` are left out.
    """
    import numpy as np

    banding = resemblance.banding
    firsts = range(0, banding.num_perm, banding.rows)
    bands = [_Band(parts, resemblance, first, places) for first in firsts]
    waiting, left = np.empty(0, dtype=np.uint64), len(bands)
    with _shown(resemblance.unit, len(bands), len(places)) as bar:
        for found in spread(_Band.pairs, bands):
            waiting, left = np.union1d(waiting, found), left - 1
            if not left or len(waiting) >= CANDIDATES:
                pairs = unpacked(waiting)
                if settled is not None:
                    open_ = ~settled[pairs].all(axis=1)
                    waiting, pairs = waiting[open_], pairs[open_]
                scores = _scored(parts, resemblance, places[pairs], spread)
                reached = scores >= resemblance.threshold
                yield waiting[reached], scores[reached]
                waiting = waiting[:0]
            bar.advance()


def _scored(
    parts: Sequence[Loadable], resemblance: Resemblance, pairs: "NDArray[np.int64]", spread: Spread
) -> "NDArray[np.float64]":
    import numpy as np

    starts = range(0, len(pairs), PAIRS_AT_ONCE)
    tasks = [_Doubtful(parts, resemblance, pairs[s : s + PAIRS_AT_ONCE]) for s in starts]
    return np.concatenate([np.empty(0), *spread(_Doubtful.scores, tasks)])


@contextmanager
def _shown(unit: str, bands: int, rows: int) -> Iterator[Track]:
    """Progress over a unit's bands, shown where there are so many rows that it takes a while."""
    title = f"compare {unit.replace('_', ' ')}s"
    if rows < SHOWN_FROM:
        yield Track(title, bands, "bands", math.inf)
        return
    with track(title, bands, "bands") as bar:
        yield bar


def joined(parts: Sequence[Loadable], name: str) -> "NDArray[Any]":
    """A column of numbers of all parts, end to end."""
    import numpy as np

    return np.concatenate([part.column(name).to_numpy() for part in parts])


def parts_at(
    parts: Sequence[Loadable], places: "NDArray[np.int64]"
) -> "Iterator[tuple[Loadable, NDArray[np.int64]]]":
    """The parts that hold some sorted places, and which of their rows those are."""
    import numpy as np

    start = 0
    for part in parts:
        stop = start + part.num_rows
        low, high = np.searchsorted(places, [start, stop])
        if high > low:
            yield part, places[low:high] - start
        start = stop
