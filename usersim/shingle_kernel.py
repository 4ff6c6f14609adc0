"""Compiled loops over UTF-8 bytes: words to hashes, hashes to signatures, bands to pairs.

A text is read once: a table folds each character and tells whether it belongs to a word, a word's
hash is made while its characters pass, and the shingles' hashes are still in the cache when the
permutations go over them. numba compiles the loops at their first use (three seconds; one in later
processes) and keeps the result beside this file, or in the user's cache folder, or, where neither
can be written, for this process only.

`usersim.shingling` and `usersim.neardup` load this module inside functions; other compiled loops
import `compiled` from it. What each loop must equal is written in plain Python in
tests/usersim/test_shingling.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np  # noqa: TID253 - this module itself is loaded inside functions
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

ALONE = 1 << 30  # flag of a character that is a word by itself
MORE = 3  # characters that one character folds to, at most
BITS = np.uint64(32)

_START = np.uint64(0xCBF29CE484222325)  # FNV-1a's offset and prime (64 bits)
_PRIME = np.uint64(0x100000001B3)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: tells the places of a run apart
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)  # MurmurHash3
_FMIX_1, _FMIX_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # MurmurHash3, as in datasketch
_TOP = np.uint32(0xFFFFFFFF)
_ZERO, _S33 = np.uint64(0), np.uint64(33)
_S16, _S13 = np.uint32(16), np.uint32(13)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function in machine code, from the cache where one can be kept."""
    try:
        done: Callable[P, R] = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba finds no folder to keep it in
        done = njit(nogil=True)(function)
    return done


@compiled
def mixed(value: Any) -> Any:
    """MurmurHash3's 64-bit finalizer."""
    value = (value ^ (value >> _S33)) * _MIX_1
    value = (value ^ (value >> _S33)) * _MIX_2
    return value ^ (value >> _S33)


@compiled
def decoded(data: "NDArray[np.uint8]", place: int) -> Any:
    """The code point of the character that begins at `place` with a byte over 127; its length."""
    first = np.int64(data[place])
    if first < 0xE0:
        return ((first & 0x1F) << 6) | np.int64(data[place + 1] & 0x3F), 2
    value = (np.int64(data[place + 1] & 0x3F) << 6) | np.int64(data[place + 2] & 0x3F)
    if first < 0xF0:
        return ((first & 0x0F) << 12) | value, 3
    return ((first & 0x07) << 18) | (value << 6) | np.int64(data[place + 3] & 0x3F), 4


@compiled
def _foreign(table: Any, code_point: int, state: Any, words: "NDArray[np.uint64]") -> Any:
    """One character outside ASCII; `state` is the word's hash so far, its length, words done."""
    fold, expansions = table
    value, length, num_words = state
    code = np.int64(fold[code_point]) if code_point < fold.shape[0] else np.int64(0)
    for step in range(MORE if code < 0 else 1):
        one = np.int64(expansions[-code, step]) if code < 0 else code
        if one < 0:  # the expansion is shorter
            break
        if one > 0 and not one & ALONE:
            value, length = (value ^ np.uint64(one)) * _PRIME, length + 1
            continue
        if length > 0:
            words[num_words] = mixed(value)
            num_words += 1
        if one > 0:
            words[num_words] = mixed((_START ^ np.uint64(one - ALONE)) * _PRIME)
            num_words += 1
        value, length = _START, 0
    return value, length, num_words


@compiled
def words_of(
    data: "NDArray[np.uint8]", start: int, stop: int, table: Any, words: "NDArray[np.uint64]"
) -> int:
    """Hashes of the words of data[start:stop] into `words`; returns how many there are."""
    fold = table[0]
    value, length, num_words, place = _START, 0, 0, start
    while place < stop:
        byte = data[place]
        if byte < 128:
            code = fold[byte]
            place += 1
            if code > 0:
                value = (value ^ np.uint64(code)) * _PRIME
                length += 1
            elif length > 0:
                words[num_words] = mixed(value)
                num_words += 1
                value, length = _START, 0
            continue
        code_point, size = decoded(data, place)
        place += size
        value, length, num_words = _foreign(table, code_point, (value, length, num_words), words)
    if length > 0:
        words[num_words] = mixed(value)
        num_words += 1
    return num_words


@compiled
def runs_of(words: "NDArray[np.uint64]", num_words: int, width: int) -> int:
    """Replace the words' hashes by those of runs of `width`; returns how many. 0 for no word.

    A run's hash is the sum of its words' hashes, each times a power of an odd constant. A text
    shorter than a run is one run.
    """
    if num_words == 0:
        return 0
    num_runs = max(num_words - width + 1, 1)
    for first in range(num_runs):
        total, power = words[first], _ODD
        for place in range(1, min(width, num_words)):
            total += words[first + place] * power
            power *= _ODD
        words[first] = total
    return num_runs


@compiled
def content_of(words: "NDArray[np.uint64]", num_words: int) -> Any:
    """One hash of all words in their order."""
    value = _START
    for place in range(num_words):
        value = (value ^ words[place]) * _MIX_1
        value ^= value >> _S33
    return mixed(value)


@compiled
def minima(
    runs: "NDArray[np.uint64]",
    num_runs: int,
    permutations: "NDArray[np.uint32]",
    low: "NDArray[np.uint32]",
    signature: "NDArray[np.uint32]",
) -> None:
    """Datasketch's MinHash, scheme affine32, of hashed shingles, into `signature`."""
    for place in range(num_runs):
        value = np.uint32(runs[place])
        value = np.uint32((value ^ (value >> _S16)) * _FMIX_1)
        value = np.uint32((value ^ (value >> _S13)) * _FMIX_2)
        low[place] = value ^ (value >> _S16)
    for number in range(signature.shape[0]):
        factor, term = permutations[0, number], permutations[1, number]
        least = _TOP
        for place in range(num_runs):
            value = np.uint32(np.uint32(low[place] * factor) + term)
            least = min(least, value)
        signature[number] = least


@compiled
def sketch(text: Any, table: Any, width: int, permutations: "NDArray[np.uint32]", out: Any) -> None:
    """Signatures, contents and numbers of words of texts, into `out`."""
    data, offsets = text
    signatures, contents, counts = out
    longest = 1
    for number in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[number + 1] - offsets[number])
    words = np.empty(longest + MORE, np.uint64)
    low = np.empty(longest + MORE, np.uint32)
    for number in range(offsets.shape[0] - 1):
        counts[number] = words_of(data, offsets[number], offsets[number + 1], table, words)
        contents[number] = content_of(words, counts[number])
        num_runs = runs_of(words, counts[number], width)
        minima(words, num_runs, permutations, low, signatures[number])


@compiled
def shingle(text: Any, table: Any, width: int, runs: "NDArray[np.uint64]") -> "NDArray[np.int64]":
    """Hashed shingles of texts, with repeats, end to end into `runs`; returns where each begins.

    A text without words has a single 0 there.
    """
    data, offsets = text
    starts = np.zeros(offsets.shape[0], np.int64)
    for number in range(offsets.shape[0] - 1):
        begin = starts[number]
        num_words = words_of(data, offsets[number], offsets[number + 1], table, runs[begin:])
        if num_words == 0:
            runs[begin] = _ZERO
        starts[number + 1] = begin + max(runs_of(runs[begin:], num_words, width), 1)
    return starts


@compiled
def distinct(values: "NDArray[np.uint64]", starts: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """How many different values each sorted stretch has; they are moved to its beginning."""
    sizes = np.zeros(starts.shape[0] - 1, np.int64)
    for number in range(sizes.shape[0]):
        last = starts[number]
        for place in range(starts[number] + 1, starts[number + 1]):
            if values[place] != values[last]:
                last += 1
                values[last] = values[place]
        sizes[number] = last + 1 - starts[number]
    return sizes


@compiled
def shared(left: "NDArray[np.uint64]", right: "NDArray[np.uint64]") -> int:
    """How many values two sorted arrays without repeats have in common."""
    i, j, count = 0, 0, 0
    while i < left.shape[0] and j < right.shape[0]:
        a, b = left[i], right[j]
        count += a == b
        i += a <= b
        j += b <= a
    return count


@compiled
def jaccards(sets: Any, pairs: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """The Jaccard similarity of each pair of sets; `sets` are values, starts and sizes."""
    values, starts, sizes = sets
    found = np.empty(pairs.shape[0], np.float64)
    for number in range(pairs.shape[0]):
        left, right = pairs[number, 0], pairs[number, 1]
        one = values[starts[left] : starts[left] + sizes[left]]
        other = values[starts[right] : starts[right] + sizes[right]]
        common = shared(one, other)
        found[number] = common / (sizes[left] + sizes[right] - common)
    return found


@compiled
def band_keys(signatures: "NDArray[np.uint32]", first: int, rows: int) -> Any:
    """A 64-bit hash of each signature's `rows` values from `first` on."""
    keys = np.empty(signatures.shape[0], np.uint64)
    for number in range(signatures.shape[0]):
        value = _START
        for place in range(first, first + rows):
            value = mixed(value ^ np.uint64(signatures[number, place]))
        keys[number] = value
    return keys


@compiled
def bucket_pairs(
    keys: "NDArray[np.uint64]", order: "NDArray[np.int64]", most: int, out: "NDArray[np.uint64]"
) -> int:
    """Pairs of positions with the same key, as left << 32 | right; returns how many there are.

    `order` sorts the keys; it is put in order within each bucket. Each member of a bucket is paired
    with the `most` smallest of it. `out` is filled as far as it reaches.
    """
    count, begin, num_keys = 0, 0, keys.shape[0]
    while begin < num_keys:
        end = begin + 1
        while end < num_keys and keys[order[end]] == keys[order[begin]]:
            end += 1
        if end - begin > 1:
            bucket = np.sort(order[begin:end])
            order[begin:end] = bucket
            for place in range(1, end - begin):
                for other in range(min(place, most)):
                    if count < out.shape[0]:
                        out[count] = (np.uint64(bucket[other]) << BITS) | np.uint64(bucket[place])
                    count += 1
        begin = end
    return count


@compiled
def agreements(signatures: Any, pairs: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """In how many values the two signatures of each pair agree."""
    found = np.zeros(pairs.shape[0], np.int64)
    for number in range(pairs.shape[0]):
        left, right = signatures[pairs[number, 0]], signatures[pairs[number, 1]]
        count = 0
        for place in range(left.shape[0]):
            count += left[place] == right[place]
        found[number] = count
    return found
