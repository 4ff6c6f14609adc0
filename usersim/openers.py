"""Openers of a run: has another conversation begun like this? Exact, in flat memory.

Two openers are near-duplicates when the Jaccard similarity of their shingle sets reaches a
threshold t. Sets in one common order that are that similar share an element among the first
n - ceil(t n) + 1 of each (prefix filtering: Chaudhuri, Ganti and Kaushik, ICDE 2006; Bayardo, Ma
and Srikant, WWW 2007), so only those are indexed. An opener that shares too few of them for the
rest to make up is left out, every other candidate is verified on the sets. Long shingles come
first in our order, because long runs of words are rare: "what is the" fills no posting list.

The index is a private SQLite database that spills to a temporary file and goes with the process;
what it holds is in the journals too. Memory stays the same for a thousand conversations and for
millions, where an LSH in memory takes 4.5 KB each.
"""

import sqlite3
from array import array
from collections import Counter
from math import ceil
from typing import Protocol

from usersim.shingling import Shingling

CACHE_KIB = 16_384  # of the index's pages in memory; the rest is in a temporary file
ROUNDING = 1e-9  # t * n may come out a hair above a whole number

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
CREATE TABLE opener (number INTEGER PRIMARY KEY, key TEXT NOT NULL, shingles BLOB NOT NULL);
CREATE TABLE posting (shingle INTEGER, size INTEGER, number INTEGER,
    PRIMARY KEY (shingle, size, number)) WITHOUT ROWID;
BEGIN;
"""
# One transaction that never ends: nothing here outlives the process.


class Offers(Protocol):
    """Whoever says whether a conversation may begin like this."""

    def offer(self, key: str, text: str) -> str | None:
        """The key of the conversation that began like this already, or None."""
        ...


class Openers:
    """Openers that grow while one asks: is there a near-duplicate of this one already?"""

    def __init__(self, threshold: float, shingling: Shingling) -> None:
        self.threshold = threshold
        self.shingling = shingling
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def offer(self, key: str, text: str) -> str | None:
        """The key of an earlier near-duplicate; when there is none, remember `text` and say None.

        No other coroutine runs between asking and remembering: of two alike only one gets in.
        """
        shingles = self._ordered(text)
        near = self._nearest(shingles, key)
        if near is None:
            self._insert(key, shingles)
        return near

    def add(self, key: str, text: str) -> None:
        """Remember a text that was accepted before, whatever it resembles."""
        self._insert(key, self._ordered(text))

    def _ordered(self, text: str) -> list[int]:
        """Hashes of the text's shingles, long shingles first; ties by the hash itself.

        Python's own hashes (64 bits) do: they hold as long as this process, and so does the index.
        """
        shingles = self.shingling.shingles(text)
        return [number for _, number in sorted((-len(s), hash(s)) for s in shingles)]

    def _prefix(self, shingles: list[int]) -> list[int]:
        return shingles[: len(shingles) - self._rest(len(shingles))]

    def _nearest(self, shingles: list[int], own: str) -> str | None:
        """The key of the most similar opener at or above the threshold; of equals the first."""
        n, wanted = len(shingles), set(shingles)
        near: list[tuple[float, int, str]] = []
        for number in self._candidates(shingles):
            found = "SELECT key, shingles FROM opener WHERE number = ?"
            key, blob = self._db.execute(found, (number,)).fetchone()
            others = array("q", blob)
            shared = len(wanted.intersection(others))
            score = shared / (n + len(others) - shared)
            if score >= self.threshold and key != own:  # held anew, it may begin as it did
                near.append((-score, number, key))
        return min(near)[2] if near else None

    def _candidates(self, shingles: list[int]) -> list[int]:
        """Openers that share enough of the indexed shingles to reach the threshold with the rest.

        The larger of both rests bounds what the rests can share, whichever ends first in our order.
        """
        n = len(shingles)
        sizes = (ceil(self.threshold * n - ROUNDING), int(n / self.threshold + ROUNDING))
        found = "SELECT number, size FROM posting WHERE shingle = ? AND size BETWEEN ? AND ?"
        shared: Counter[tuple[int, int]] = Counter()
        for shingle in self._prefix(shingles):
            shared.update(self._db.execute(found, (shingle, *sizes)))
        return [
            number
            for (number, size), count in shared.items()
            if count + max(self._rest(n), self._rest(size)) >= self._least_shared(n + size)
        ]

    def _rest(self, size: int) -> int:
        """Shingles of a set of that size that are not indexed."""
        return ceil(self.threshold * size - ROUNDING) - 1

    def _least_shared(self, sizes: int) -> int:
        """What two sets of these sizes together must share: s / (sizes - s) >= threshold."""
        return ceil(self.threshold * sizes / (1 + self.threshold) - ROUNDING)

    def _insert(self, key: str, shingles: list[int]) -> None:
        number, self._count = self._count, self._count + 1
        blob = array("q", shingles).tobytes()
        self._db.execute("INSERT INTO opener VALUES (?, ?, ?)", (number, key, blob))
        postings = [(shingle, len(shingles), number) for shingle in self._prefix(shingles)]
        self._db.executemany("INSERT INTO posting VALUES (?, ?, ?)", postings)

    def close(self) -> None:
        """Give the memory and the temporary file back. Calling it twice is allowed."""
        self._db.close()
