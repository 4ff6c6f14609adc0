"""Compiled looks at the words of conversations: may they repeat themselves, hold a listed word?

Screens only: what they let through is settled, what they stop is judged by the plain rules of
`pipelines.filters`. Loaded inside functions, because numba takes a second.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np  # noqa: TID253 - this module itself is loaded inside functions

from usersim.shingle_kernel import MORE, compiled, content_of, mixed, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pipelines.filters import FilterSettings

FOUND = ("echo", "repetitive_turn", "repeated_turn", "slur")
"""The rules of which `look` tells, in the order of its columns."""

_ODD = np.uint64(0x9E3779B97F4A7C15)
LONGEST_UNIT = 40  # words


class Limits(NamedTuple):
    """The thresholds of FilterSettings, and the listed words' hashes."""

    loop_words: int
    min_words: int
    max_share: float
    short_words: int
    max_short_share: float
    known: "NDArray[np.uint64]"

    @classmethod
    def of(cls, settings: "FilterSettings", short_words: int, listed: "Iterable[int]") -> "Limits":
        """Of a recipe's settings; turns of fewer than `short_words` may repeat themselves."""
        return cls(
            settings.max_loop_words,
            settings.min_words_for_repetition,
            settings.max_duplicate_share,
            short_words,
            settings.max_short_duplicate_share,
            hash_table(listed),
        )


def hash_table(values: "Iterable[int]") -> "NDArray[np.uint64]":
    """Values at their own places in a table of a power of two, or at the next free ones."""
    chosen = set(values)
    table = np.zeros(max(256, 4 << len(chosen).bit_length()), dtype=np.uint64)
    for value in chosen:
        slot = value % len(table)
        while table[slot]:
            slot = (slot + 1) % len(table)
        table[slot] = value
    return table


@compiled
def repeated(words: "NDArray[np.uint64]", width: int, most: float, table: Any) -> bool:
    """Whether more than a share `most` of the runs of `width` words occurred before.

    `table` has a power of two of places, twice as many as there are words at least.
    """
    runs, found = len(words) - width + 1, 0
    enough = (1 - most) * runs + 1  # one more, so that rounding decides nothing
    size = np.uint64(len(table) - 1)
    table[:] = np.uint64(0)
    for first in range(runs):
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
            if found >= enough:
                return False
    return bool(1 - found / runs > most)


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
def without_numbers(data: "NDArray[np.uint8]", words: "NDArray[np.uint64]", into: Any) -> int:
    """Move the words that are not digits alone to `into`; how many, or -1 beyond ASCII."""
    place, told, letters, length = 0, 0, 0, 0
    for number in range(len(data) + 1):
        byte = data[number] if number < len(data) else np.uint8(32)
        if byte > 127:
            return -1
        digit = 48 <= byte <= 57
        if digit or 65 <= byte <= 90 or 97 <= byte <= 122 or byte == 95:
            length += 1
            letters += not digit
        elif length > 0:
            into[told] = words[place]
            told += letters > 0
            place += 1
            length, letters = 0, 0
    return told


@compiled
def repeats(data: "NDArray[np.uint8]", words: Any, limits: Any, scratch: Any) -> bool:
    """Whether a turn may hold too many runs of words that it held before."""
    told, table = scratch
    total, width, most = len(words), 6, limits.max_share
    if total < limits.min_words:
        total = without_numbers(data, words, told) if len(words) >= limits.short_words else 0
        if total < 0:
            return True
        if total < limits.short_words:
            return False
        words, width, most = told[:total], 3, limits.max_short_share
    size = 16
    while size < 2 * total:
        size *= 2
    return repeated(words, width, most, table[:size])


@compiled
def holds(known: "NDArray[np.uint64]", words: "NDArray[np.uint64]") -> bool:
    """Whether one of the words is in `known`, a table by `hash_table`."""
    last = np.uint64(len(known) - 1)
    for word in words:
        slot = word & last
        while known[slot] != 0:
            if known[slot] == word:
                return True
            slot = (slot + np.uint64(1)) & last
    return False


@compiled
def look(
    text: Any, firsts: "NDArray[np.int64]", table: Any, limits: Limits, out: "NDArray[np.bool_]"
) -> None:
    """Fill a row a conversation with what it may hold: see FOUND.

    `text`: bytes of turns and where each begins; `firsts`: of each conversation its first turn;
    `table`: of `usersim.shingling`.
    """
    data, offsets = text
    longest, most = 16, 1
    for turn in range(len(offsets) - 1):
        longest = max(longest, offsets[turn + 1] - offsets[turn])
    for row in range(len(firsts) - 1):
        most = max(most, firsts[row + 1] - firsts[row])
    values = np.empty(longest + MORE, dtype=np.uint64)
    scratch = (np.empty(64 + longest, dtype=np.uint64), np.empty(4 * longest, dtype=np.uint64))
    contents = np.empty(most, dtype=np.uint64)
    out[:] = False
    for row in range(len(firsts) - 1):
        for turn in range(firsts[row], firsts[row + 1]):
            start, stop = offsets[turn], offsets[turn + 1]
            words = values[: words_of(data, start, stop, table, values)]
            out[row, 1] |= ends_in_loop(words, limits.loop_words)
            out[row, 1] |= repeats(data[start:stop], words, limits, scratch)
            out[row, 3] |= holds(limits.known, words)
            position = turn - firsts[row]
            contents[position] = content_of(words, len(words)) if len(words) >= 4 else 0
            for before in range(position):
                if contents[before] == contents[position] != 0:
                    side = 2 if (position - before) % 2 == 0 else 0
                    out[row, side] |= side == 2 or before == position - 1
