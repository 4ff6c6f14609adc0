"""Verified near-duplicates among the rows of many parts, in pieces that can be done anywhere.

Rows are ranked, the best first; a row that repeats a better one's words exactly is left to it. For
each band of the signatures the rows with equal keys are paired (the better with the worse), and the
pairs are verified by the true Jaccard similarity of their texts, which are read again for that.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.spread import Spread
from pipelines.traces import UNITS, USER_PART, Traces, Turns
from usersim.neardup import BUCKET, Alike, Banding, pairs_of_keys, unpacked
from usersim.shingling import Shingling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAIRS_AT_ONCE = 50_000  # verified by one task: bounds the texts in memory


class Loadable(Protocol):
    """A part whose traces can be had: `traces.Part` on disk, `traces.Traces` in memory."""

    @property
    def turns(self) -> Callable[[Sequence[int]], list[Turns]]:
        """Gives the turns of some rows."""
        ...

    def load(self) -> Traces:
        """All of its traces."""
        ...

    def matrix(self, unit: str) -> "NDArray[Any]":
        """The signatures of one unit."""
        ...


@dataclass(frozen=True, slots=True)
class Likeness:
    """When two rows are alike by one unit."""

    unit: str
    threshold: float
    user_floor: float
    """What the user's part must reach too, where the assistant's text counts."""
    shingling: Shingling

    @property
    def banding(self) -> Banding:
        """The bands that propose 99.9 % of the pairs at the threshold."""
        return Banding.for_threshold(self.threshold)


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows whose values from `first` on are compared; `places` are theirs, in the ranks' order."""

    parts: Sequence[Loadable]
    likeness: Likeness
    first: int
    places: "NDArray[np.int64]"

    def pairs(self) -> "NDArray[np.uint64]":
        """Packed pairs of positions in `places`."""
        import numpy as np

        from usersim import shingle_kernel as kernel

        rows = self.likeness.banding.rows
        matrices = (part.matrix(self.likeness.unit) for part in self.parts)
        keys = [kernel.band_keys(np.asarray(m), self.first, rows) for m in matrices]
        return pairs_of_keys(np.concatenate(keys)[self.places], BUCKET)


@dataclass(frozen=True, slots=True)
class _Doubtful:
    """Pairs of places to be verified."""

    parts: Sequence[Loadable]
    likeness: Likeness
    pairs: "NDArray[np.int64]"

    def scores(self) -> "NDArray[np.float64]":
        """Their Jaccard similarities; 0 where the user's parts differ too much."""
        import numpy as np

        likely = np.flatnonzero(self._agreements() >= self._least())
        found = np.zeros(len(self.pairs), dtype=np.float64)
        if len(likely):
            involved, local = np.unique(self.pairs[likely], return_inverse=True)
            pairs = local.reshape(-1, 2)
            held = parts_at(self.parts, self.likeness.unit, involved)
            turns = [each for part, rows in held for each in part.turns(rows.tolist())]
            found[likely] = self._similarities(turns, self.likeness.unit, pairs)
            if part := USER_PART.get(self.likeness.unit):
                floor = self.likeness.user_floor
                found[likely] *= self._similarities(turns, part, pairs) >= floor
        return found

    def _similarities(
        self, turns: Sequence[Turns], unit: str, pairs: "NDArray[np.int64]"
    ) -> "NDArray[np.float64]":
        from usersim import shingle_kernel as kernel

        sets = self.likeness.shingling.sets([UNITS[unit](each) for each in turns])
        scores: NDArray[np.float64] = kernel.jaccards((sets.values, sets.starts, sets.sizes), pairs)
        return scores

    def _agreements(self) -> "NDArray[np.int64]":
        import numpy as np

        from usersim import shingle_kernel as kernel

        involved, local = np.unique(self.pairs, return_inverse=True)
        unit = self.likeness.unit
        rows = [part.matrix(unit)[at] for part, at in parts_at(self.parts, unit, involved)]
        found: NDArray[np.int64] = kernel.agreements(np.concatenate(rows), local.reshape(-1, 2))
        return found

    def _least(self) -> float:
        """Six standard deviations below what is expected at the threshold: one pair in 10^9."""
        size, threshold = self.likeness.banding.num_perm, self.likeness.threshold
        return size * threshold - 6.0 * math.sqrt(size * threshold * (1 - threshold))


def near_pairs(
    parts: Sequence[Loadable], likeness: Likeness, places: "NDArray[np.int64]", spread: Spread
) -> Alike:
    """Verified pairs of positions in `places`, the rows to be compared, in the ranks' order.

    A place is a row's number when the parts are laid end to end.
    """
    import numpy as np

    banding = likeness.banding
    firsts = range(0, banding.num_perm, banding.rows)
    bands = [_Band(parts, likeness, first, places) for first in firsts]
    packed = np.empty(0, dtype=np.uint64)
    for found in spread(_Band.pairs, bands):
        packed = np.union1d(packed, found)
    pairs = unpacked(packed)
    starts = range(0, len(pairs), PAIRS_AT_ONCE)
    tasks = [_Doubtful(parts, likeness, places[pairs[s : s + PAIRS_AT_ONCE]]) for s in starts]
    scores = np.concatenate([np.empty(0), *spread(_Doubtful.scores, tasks)])
    reached = scores >= likeness.threshold
    return Alike(pairs[reached], scores[reached])


def parts_at(
    parts: Sequence[Loadable], unit: str, places: "NDArray[np.int64]"
) -> "Iterator[tuple[Loadable, NDArray[np.int64]]]":
    """The parts that hold some sorted places, and which of their rows those are."""
    import numpy as np

    start = 0
    for part in parts:
        stop = start + len(part.matrix(unit))
        low, high = np.searchsorted(places, [start, stop])
        if high > low:
            yield part, places[low:high] - start
        start = stop
