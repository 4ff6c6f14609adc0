"""Which texts share words with reference texts: an exact index of their runs of words.

What is looked for is small (benchmarks, the people a simulator learned from) and what is searched
is large, so an inverted index in sorted arrays answers exactly what MinHash would estimate: how
many runs of a reference a text holds (containment), and how long they go on (verbatim stretches).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from usersim.shingling import Shingling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RunIndex:
    """Runs of `width` words of reference texts; a shorter text is one run as a whole.

    Memory: 12 bytes a distinct run of a text.
    """

    def __init__(self, texts: Sequence[str], width: int) -> None:
        import numpy as np

        self.shape = Shingling(width)
        sets = self.shape.sets(texts)
        self.sizes = sets.sizes
        """How many different runs each reference text has."""
        values = [sets[i] for i in range(len(texts))]
        keys = np.concatenate(values) if values else np.empty(0, dtype=np.uint64)
        owners = np.repeat(np.arange(len(texts), dtype=np.int32), self.sizes)
        order = np.argsort(keys, kind="stable")
        self._keys, self._owners = keys[order], owners[order]

    def shared(self, texts: Sequence[str]) -> list[dict[int, int]]:
        """For each text: reference texts that share a run with it, and how many runs."""
        import numpy as np

        sets = self.shape.sets(texts)
        low = np.searchsorted(self._keys, sets.values, side="left")
        high = np.searchsorted(self._keys, sets.values, side="right")
        found = []
        for start, size in zip(sets.starts.tolist(), sets.sizes.tolist(), strict=True):
            here = slice(start, start + size)
            hits = np.flatnonzero(high[here] > low[here]) + start
            owners = [self._owners[low[i] : high[i]] for i in hits.tolist()]
            counted = np.unique(np.concatenate(owners), return_counts=True) if owners else ((), ())
            found.append({int(owner): int(n) for owner, n in zip(*counted, strict=True)})
        return found

    def longest(self, texts: Sequence[str]) -> "NDArray[np.int64]":
        """For each text its longest stretch, in words, all runs of which are in the index."""
        import numpy as np

        values, bounds = self.shape.runs(texts)
        end = int(bounds[-1])
        held = np.zeros(end + 1, dtype=bool)
        held[:end] = self._holds(values[:end])
        longest = np.zeros(len(texts), dtype=np.int64)
        for i in range(len(texts)):
            run = _longest_run(held[bounds[i] : bounds[i + 1]])
            longest[i] = run + self.shape.words - 1 if run else 0
        return longest

    def _holds(self, values: "NDArray[np.uint64]") -> "NDArray[np.bool_]":
        import numpy as np

        if not len(self._keys):
            return np.zeros(len(values), dtype=bool)
        place = np.minimum(np.searchsorted(self._keys, values), len(self._keys) - 1)
        found: NDArray[np.bool_] = self._keys[place] == values
        return found


def _longest_run(held: "NDArray[np.bool_]") -> int:
    """Length of the longest stretch of True."""
    import numpy as np

    if not held.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], held.view(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max())


def fewest_edits(pattern: Sequence[str], words: Sequence[str]) -> int:
    """Fewest words to replace, insert or delete until `pattern` is a stretch of `words`.

    Approximate matching after Sellers (1980), in the bit-parallel form of Myers (1999) and Hyyrö:
    a few operations on integers of `len(pattern)` bits a word.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(pattern):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(pattern)) - 1
    top = 1 << len(pattern) >> 1
    more, less = full, 0
    edits = best = len(pattern)
    for word in words:
        equal = places.get(word, 0)
        diagonal = ((((equal & more) + more) ^ more) | equal | less) & full
        up = less | (full & ~(diagonal | more))
        down = diagonal & more
        edits += bool(up & top) - bool(down & top)
        best = min(best, edits)
        up, down = (up << 1) & full, (down << 1) & full
        more, less = down | (full & ~(diagonal | up)), diagonal & up
    return best
