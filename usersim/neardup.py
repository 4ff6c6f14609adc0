"""Near-duplicate texts: MinHash signatures, banded candidates, verified by their true Jaccard.

A text is the set of its word shingles; two texts are near-duplicates when the Jaccard similarity
of their sets reaches a threshold. MinHash and LSH only *propose* pairs (the very pairs that
datasketch's `MinHashLSH` would, found by sorting instead of in hash tables); every pair that is
returned was verified on the sets themselves, so what is told of a pair is never an estimate.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from usersim.shingling import Shingling, Sketches, minhash

if TYPE_CHECKING:
    import numpy as np
    from datasketch import MinHash
    from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)

BUCKET = 1000
"""In a bucket of more texts than these, each is compared with so many of the first ones only."""
_VERIFIED_AT_ONCE = 4096  # pairs: bounds the shingle sets in memory
_FAR = 6.0  # standard deviations below the threshold: such a pair is one in a thousand million


@dataclass(frozen=True, slots=True)
class Banding:
    """A signature cut into `bands` of `rows` values; texts that share a band are candidates."""

    bands: int = 25
    rows: int = 5

    @property
    def num_perm(self) -> int:
        """Length of the signature that this banding reads."""
        return self.bands * self.rows

    def recall(self, jaccard: float) -> float:
        """Chance that a pair of that similarity becomes a candidate: 1 - (1 - s^r)^b.

        Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2.
        """
        return 1.0 - (1.0 - jaccard**self.rows) ** self.bands

    @classmethod
    def for_threshold(
        cls, threshold: float, num_perm: int = 128, recall: float = 0.999
    ) -> "Banding":
        """The banding with the longest bands that proposes `recall` of the pairs at `threshold`.

        Candidates are verified, so only recall counts; longer bands only save work. 0.8 gives
        25 x 5, 0.7 gives 32 x 4, 0.6 gives 42 x 3.
        """
        fitting = (cls(num_perm // rows, rows) for rows in range(num_perm // 2, 0, -1))
        return next((b for b in fitting if b.recall(threshold) >= recall), cls(num_perm, 1))


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Positions of two near-duplicates, `left < right`, and their true Jaccard similarity."""

    left: int
    right: int
    jaccard: float


@dataclass(frozen=True, slots=True)
class Alike:
    """Pairs of positions, a row each with the smaller one first, and their Jaccard similarities."""

    pairs: "NDArray[np.int64]"
    jaccard: "NDArray[np.float64]"

    def reaching(self, threshold: float) -> "NDArray[np.int64]":
        """The pairs that are at least this similar."""
        found: NDArray[np.int64] = self.pairs[self.jaccard >= threshold]
        return found

    def to_pairs(self) -> list[Pair]:
        """The same, sorted."""
        rows = zip(self.pairs.tolist(), self.jaccard.tolist(), strict=True)
        return sorted(Pair(left, right, score) for (left, right), score in rows)


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Size of the intersection over the size of the union, of two sets that are not both empty."""
    return len(left & right) / len(left | right)


def signatures(
    texts: Sequence[str], shingling: Shingling | None = None, num_perm: int = 128
) -> "NDArray[np.uint32]":
    """MinHash signatures, one row of `num_perm` values a text (datasketch, scheme affine32)."""
    return (shingling or Shingling()).sketches(texts, num_perm).signatures


def candidate_pairs(
    signatures: "NDArray[np.uint32]",
    banding: Banding,
    most: int | None = None,
    among: "NDArray[np.int64] | None" = None,
) -> "NDArray[np.int64]":
    """Pairs of rows that agree in a whole band, sorted, each once: those of `MinHashLSH`.

    With `most`, each row of a bucket is paired with the bucket's first so many rows only, which
    bounds the work at rows x bands x most. With `among`, sorted, only those rows are paired.
    """
    import numpy as np

    from usersim import shingle_kernel as kernel

    found = np.empty(0, dtype=np.uint64)
    for first in range(0, banding.num_perm, banding.rows):
        keys = kernel.band_keys(signatures, first, banding.rows)
        compared = keys if among is None else keys[among]
        found = np.union1d(found, pairs_of_keys(compared, most))
    return unpacked(found) if among is None else among[unpacked(found)]


def pairs_of_keys(keys: "NDArray[np.uint64]", most: int | None = None) -> "NDArray[np.uint64]":
    """Pairs of positions with the same key, packed as left << 32 | right; `most` as above."""
    import numpy as np

    from usersim import shingle_kernel as kernel

    order, most = np.argsort(keys), most or len(keys)
    room = np.empty(max(len(keys), 1024), dtype=np.uint64)
    count = kernel.bucket_pairs(keys, order, most, room)
    if count > len(room):
        room = np.empty(count, dtype=np.uint64)
        kernel.bucket_pairs(keys, order, most, room)
    return room[:count]


def unpacked(packed: "NDArray[np.uint64]") -> "NDArray[np.int64]":
    """Packed pairs as rows of two positions."""
    import numpy as np

    pairs: NDArray[np.int64] = np.empty((len(packed), 2), dtype=np.int64)
    pairs[:, 0], pairs[:, 1] = packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)
    return pairs


def first_of_same_sets(
    texts: Sequence[str], shingling: Shingling, sketches: Sketches
) -> "NDArray[np.int64]":
    """For each text the position of the first one with the very same set (often its own)."""
    import numpy as np

    from usersim import shingle_kernel as kernel

    _, index, inverse = np.unique(sketches.contents, return_index=True, return_inverse=True)
    first = index[inverse]
    # Other texts with the same words in another order: their signatures are equal too.
    whole = sketches.signatures.shape[1]
    keys = kernel.band_keys(sketches.signatures, 0, whole)[np.sort(index)]
    alone, counts = np.unique(keys, return_counts=True)
    doubtful = np.sort(index)[np.isin(keys, alone[counts > 1])]
    seen: dict[bytes, int] = {}
    moved = {i: seen.setdefault(shingling.hashes(texts[i]).tobytes(), i) for i in doubtful.tolist()}
    for position, other in moved.items():
        if position != other:
            first[first == position] = other
    return first


def verified(
    texts: Sequence[str], shingling: Shingling, pairs: "NDArray[np.int64]", threshold: float
) -> Alike:
    """Those of the pairs whose true Jaccard similarity reaches the threshold."""
    import numpy as np

    from usersim import shingle_kernel as kernel

    scores = np.empty(len(pairs), dtype=np.float64)
    for start in range(0, len(pairs), _VERIFIED_AT_ONCE):
        part = pairs[start : start + _VERIFIED_AT_ONCE]
        involved, local = np.unique(part, return_inverse=True)
        sets = shingling.sets([texts[i] for i in involved.tolist()])
        given = (sets.values, sets.starts, sets.sizes)
        scores[start : start + len(part)] = kernel.jaccards(given, local.reshape(part.shape))
    reached = scores >= threshold
    return Alike(pairs[reached], scores[reached])


def likely(
    signatures: "NDArray[np.uint32]", pairs: "NDArray[np.int64]", threshold: float
) -> "NDArray[np.int64]":
    """The pairs without those whose signatures agree far too little for the threshold.

    The number of agreeing values is binomial; what lies six standard deviations below its mean at
    the threshold is left out, which loses one pair in 10^9.
    """
    from usersim import shingle_kernel as kernel

    size = signatures.shape[1]
    least = size * threshold - _FAR * (size * threshold * (1 - threshold)) ** 0.5
    reached: NDArray[np.bool_] = kernel.agreements(signatures, pairs) >= least
    return pairs[reached]


def alike(
    texts: Sequence[str],
    threshold: float,
    shingling: Shingling | None = None,
    banding: Banding | None = None,
    num_perm: int = 0,
) -> Alike:
    """Verified pairs with a Jaccard similarity of at least `threshold`.

    Signatures have `num_perm` values, or as many as the banding reads if those are more.

    Among texts with different shingle sets these are all the pairs (but for the share that the
    banding misses, at most 0.1 % at the threshold by default, and for buckets over `BUCKET`).
    Texts with the same set are linked to the first of them only, with 1.0: a thousand times
    "continue" gives 999 pairs, not 499,500. `clusters` of the pairs is therefore the same whatever
    the order of the texts.
    """
    import numpy as np

    shape, bands = shingling or Shingling(), banding or Banding.for_threshold(threshold)
    sketches = shape.sketches(texts, max(num_perm, bands.num_perm))
    first = first_of_same_sets(texts, shape, sketches)
    own = np.arange(len(texts))
    kept, repeats = own[first == own], own[first != own]
    pairs = candidate_pairs(sketches.signatures, bands, BUCKET, kept)
    found = verified(texts, shape, likely(sketches.signatures, pairs, threshold), threshold)
    same = np.column_stack([first[repeats], repeats])
    return Alike(
        np.concatenate([found.pairs, same]), np.concatenate([found.jaccard, np.ones(len(same))])
    )


def near_duplicate_pairs(
    texts: Sequence[str],
    threshold: float,
    shingling: Shingling | None = None,
    banding: Banding | None = None,
) -> list[Pair]:
    """The pairs of `alike`, sorted."""
    return alike(texts, threshold, shingling, banding).to_pairs()


def clusters(n: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Connected components of `n` records: every record in exactly one, single ones included.

    Members are in order and components are ordered by their first member.
    """
    parent = list(range(n))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for pair in pairs:
        left, right = sorted((root(pair.left), root(pair.right)))
        parent[right] = left
    components: dict[int, list[int]] = {}
    for position in range(n):
        components.setdefault(root(position), []).append(position)
    return list(components.values())


def components(n: int, pairs: "Sequence[NDArray[np.int64]]") -> list[list[int]]:
    """`clusters` of pairs in arrays (rows x 2): a thousand near-duplicates are half a million."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left, right = np.concatenate([*pairs, np.empty((0, 2), dtype=np.int64)]).T
    graph = coo_matrix((np.ones(len(left), dtype=bool), (left, right)), (n, n))
    number, label = connected_components(graph, directed=False)
    order = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[order], np.arange(1, number))
    found = [members.tolist() for members in np.split(order, starts)] if n else []
    return sorted(found)


class LiveIndex(Generic[Key]):
    """Texts that grow while one asks: is there a near-duplicate of this one already?"""

    def __init__(
        self, threshold: float, shingling: Shingling | None = None, banding: Banding | None = None
    ) -> None:
        from datasketch import MinHashLSH

        self.threshold = threshold
        self.shingling = shingling or Shingling()
        self.banding = banding or Banding.for_threshold(threshold)
        params = (self.banding.bands, self.banding.rows)
        self._lsh = MinHashLSH(num_perm=self.banding.num_perm, params=params)
        self._hashes: dict[Key, NDArray[np.uint64]] = {}
        self._order: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._hashes)

    def nearest(self, text: str) -> tuple[Key, float] | None:
        """Key and Jaccard similarity of the closest text at or above the threshold, or None.

        Between equals the one that was added first.
        """
        found = self._matches(self.shingling.hashes(text), self._sketch(text))
        return max(found, key=lambda match: (match[1], -self._order[match[0]]), default=None)

    def add(self, key: Key, text: str) -> None:
        """Remember a text. Raises ValueError when the key is there already."""
        if key in self._hashes:
            raise ValueError(f"key {key!r} is in the index already")
        self._lsh.insert(key, self._sketch(text), check_duplication=False)
        self._order[key] = len(self._hashes)
        self._hashes[key] = self.shingling.hashes(text)

    def _sketch(self, text: str) -> "MinHash":
        return minhash(self.shingling.sketches([text], self.banding.num_perm).signatures[0])

    def _matches(
        self, hashes: "NDArray[np.uint64]", sketch: "MinHash"
    ) -> Iterator[tuple[Key, float]]:
        """Every remembered key within the threshold of a hashed text, in no order."""
        from usersim import shingle_kernel as kernel

        for key in self._lsh.query(sketch):
            other = self._hashes[key]
            common = kernel.shared(hashes, other)
            score = common / (len(hashes) + len(other) - common)
            if score >= self.threshold:
                yield key, score
