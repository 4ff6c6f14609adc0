"""Compiled looks at the words of turns: may one repeat itself, does it hold an unknown word?

Screens only: what they let through is settled, what they stop is judged by the plain rules of
`pipelines.repetition`. Loaded inside functions, because numba takes a second.
"""

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 - this module itself is loaded inside functions

from usersim.shingle_kernel import compiled, content_of, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ODD = np.uint64(0x9E3779B97F4A7C15)
LONGEST_UNIT = 40


@compiled
def distinct_runs(words: "NDArray[np.uint64]", width: int, table: "NDArray[np.uint64]") -> int:
    """How many different runs of `width` words there are; `table` has a power of two of places."""
    size = np.uint64(len(table) - 1)
    table[:] = np.uint64(0)
    found = 0
    for first in range(len(words) - width + 1):
        value, power = words[first], _ODD
        for place in range(1, width):
            value += words[first + place] * power
            power *= _ODD
        value = mixed(value) | np.uint64(1)
        slot = value & size
        while table[slot] != 0 and table[slot] != value:
            slot = (slot + np.uint64(1)) & size
        if table[slot] == 0:
            table[slot] = value
            found += 1
    return found


@compiled
def ends_in_loop(words: "NDArray[np.uint64]", max_words: int) -> bool:
    """Whether the last words are one unit four times or more, over more than `max_words` words."""
    total = len(words)
    for period in range(1, min(LONGEST_UNIT, total // 4) + 1):
        run = period
        while run < total and words[total - run - 1] == words[total - run - 1 + period]:
            run += 1
        if run >= 4 * period and run > max_words:
            return True
    return False


@compiled
def look(
    values: "NDArray[np.uint64]",
    bounds: "NDArray[np.int64]",
    limits: "NDArray[np.float64]",
    out: "NDArray[np.int64]",
) -> None:
    """Fill a row a turn: words, its content's hash, may it end in a loop, may it repeat itself.

    `limits`: words of a loop; words from which 6-word runs count, and their highest duplicate
    share; words from which a shorter turn is worth the plain rule's look.
    """
    longest = 16
    for turn in range(len(bounds) - 1):
        longest = max(longest, bounds[turn + 1] - bounds[turn])
    size = 16
    while size < 2 * longest:
        size *= 2
    table = np.zeros(size, dtype=np.uint64)
    for turn in range(len(bounds) - 1):
        words = values[bounds[turn] : bounds[turn + 1]]
        total = len(words)
        out[turn, 0] = total
        out[turn, 1] = np.int64(content_of(words, total))
        out[turn, 2] = ends_in_loop(words, int(limits[0]))
        out[turn, 3] = 0
        if total >= limits[1]:
            runs = total - 5
            out[turn, 3] = 1 - distinct_runs(words, 6, table) / runs > limits[2]
        elif total >= limits[3]:
            out[turn, 3] = 1
