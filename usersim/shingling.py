"""Texts as sets of word shingles, and their MinHash signatures, at the speed of compiled code.

    Shingling(3).sketches(texts, num_perm=125).signatures

Signatures are datasketch's (MinHash, scheme affine32, over the low 32 bits of the shingles'
hashes), value for value, so that its LSH can be fed with them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from datasketch import MinHash
    from numpy.typing import NDArray

# Scripts written without spaces (Thai, Lao, Myanmar, Khmer, kana, Han, Hangul) count each character
# as a word; elsewhere a word is a run of letters, digits and underscores.
_ALONE = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")
_CHARACTERS = 0x40000  # from here on Unicode has no letters
_BATCH = 256  # texts packed at once: they stay in the cache until they are read
_SEED = 1  # of the permutations; signatures are comparable only under one seed
_MASK = (1 << 64) - 1


def words(text: str) -> list[str]:
    """Words of a text, case folded, punctuation left out."""
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, slots=True)
class Sketches:
    """What is remembered of texts, a row each."""

    signatures: "NDArray[np.uint32]"
    """MinHash values, `num_perm` columns."""
    contents: "NDArray[np.uint64]"
    """Equal for texts of the same words in the same order (but for one in 2^64)."""
    num_words: "NDArray[np.int64]"


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """Hashed shingles of texts, sorted and without repeats: `values[start : start + size]` each."""

    values: "NDArray[np.uint64]"
    starts: "NDArray[np.int64]"
    sizes: "NDArray[np.int64]"

    def __getitem__(self, position: int) -> "NDArray[np.uint64]":
        start = self.starts[position]
        return self.values[start : start + self.sizes[position]]


@dataclass(frozen=True, slots=True)
class Shingling:
    """How a text becomes a set: runs of `words` words, case folded, punctuation ignored.

    A text shorter than that is one shingle as a whole, so that short texts are duplicates only when
    they are the same words. A text without any word (`???`, an emoji) is itself, stripped.
    Five words suit whole conversations; for short openers three words and a threshold of 0.6 catch
    edits of 5 % of the words (measured on planted edits).

    A run's hash is the sum of its words' hashes (64 bits: FNV-1a over code points, finished as in
    MurmurHash3), each times a power of an odd constant, modulo 2^64; n shingles have one collision
    in every 2^65 / n^2 texts.
    """

    words: int = 5

    def shingles(self, text: str) -> frozenset[str]:
        """The set itself, never empty."""
        return frozenset(self._runs(text))

    def hashes(self, text: str) -> "NDArray[np.uint64]":
        """The set as sorted 64-bit hashes without repeats, never empty."""
        return self.sets([text])[0]

    def sets(self, texts: Sequence[str]) -> ShingleSets:
        """The sets of texts, hashed. Takes 8 bytes a byte of text while at work, 8 a word after."""
        from usersim import shingle_kernel as kernel

        runs, starts = self.runs(texts)
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            runs[start:stop].sort()
        return ShingleSets(runs, starts[:-1], kernel.distinct(runs, starts))

    def runs(self, texts: Sequence[str]) -> "tuple[NDArray[np.uint64], NDArray[np.int64]]":
        """Hashes of the texts' runs as they follow each other, repeats included, and their bounds.

        Those of text `i` are `values[bounds[i] : bounds[i + 1]]`; a text has one at least.
        """
        import numpy as np

        from usersim import shingle_kernel as kernel

        data, offsets = packed(texts)
        values = np.empty(len(data) + len(texts) + kernel.MORE, dtype=np.uint64)
        bounds = kernel.shingle((data, offsets), character_table(), self.words, values)
        for i in np.flatnonzero(values[bounds[:-1]] == 0).tolist():
            values[bounds[i]] = word_hash(texts[i])
        return values, bounds

    def sketches(self, texts: Sequence[str], num_perm: int = 128) -> Sketches:
        """Signatures and content hashes of texts, in their order."""
        import numpy as np

        signatures = np.empty((len(texts), num_perm), dtype=np.uint32)
        contents = np.empty(len(texts), dtype=np.uint64)
        num_words = np.empty(len(texts), dtype=np.int64)
        for start in range(0, len(texts), _BATCH):
            part = slice(start, start + _BATCH)
            self._sketch(texts[part], Sketches(signatures[part], contents[part], num_words[part]))
        return Sketches(signatures, contents, num_words)

    def _sketch(self, texts: Sequence[str], into: Sketches) -> None:
        import numpy as np

        from usersim import shingle_kernel as kernel

        num_perm = into.signatures.shape[1]
        out = (into.signatures, into.contents, into.num_words)
        kernel.sketch(packed(texts), character_table(), self.words, _permutations(num_perm), out)
        for i in np.flatnonzero(into.num_words == 0).tolist():
            into.contents[i] = word_hash(texts[i])
            sketch = _empty_sketch(num_perm).copy()
            sketch.update(int(into.contents[i]) & 0xFFFFFFFF)  # affine32 permutes 32-bit values
            into.signatures[i] = sketch.hashvalues

    def _runs(self, text: str) -> Iterator[str]:
        found = words(text) or [text.casefold().strip()]
        for start in range(max(len(found) - self.words, 0) + 1):
            yield " ".join(found[start : start + self.words])


def packed(texts: Sequence[str]) -> "tuple[NDArray[np.uint8], NDArray[np.int64]]":
    """Texts as UTF-8 bytes end to end, and where each begins; half an emoji does no harm."""
    import numpy as np

    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def minhash(signature: "NDArray[np.uint32]") -> "MinHash":
    """A signature as datasketch's own object, for its LSH."""
    from datasketch import MinHash

    permutations = _permutations(len(signature))
    return MinHash(seed=_SEED, hashvalues=signature, permutations=permutations, scheme="affine32")


def word_hash(text: str) -> int:
    """The hash of a word; of a text without words, that of its characters."""
    value = 0xCBF29CE484222325
    for character in text.casefold().strip():
        value = (value ^ ord(character)) * 0x100000001B3 & _MASK
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


@cache
def character_table() -> "tuple[NDArray[np.int32], NDArray[np.int32]]":
    """For each character what it folds to: 0 for none of a word, its code point, or -row.

    The rows hold characters that fold to several, ended by -1. Taken from Python's own `casefold`
    and the pattern of words, so that both always agree.
    """
    import numpy as np

    from usersim.shingle_kernel import MORE

    fold = np.zeros(_CHARACTERS, dtype=np.int32)
    rows = [[-1] * MORE]
    for code_point in range(_CHARACTERS):
        folded = chr(code_point).casefold()
        if len(folded) == 1:
            fold[code_point] = _code(folded)
        else:
            fold[code_point] = -len(rows)
            codes = [_code(character) for character in folded]
            rows.append(codes + [-1] * (MORE - len(codes)))
    return fold, np.array(rows, dtype=np.int32)


_ALONE_PATTERN = re.compile(f"[{_ALONE}]")


def _code(character: str) -> int:
    from usersim.shingle_kernel import ALONE

    if _ALONE_PATTERN.match(character):
        return ord(character) | ALONE
    return ord(character) if character.isalnum() or character == "_" else 0


@cache
def _permutations(num_perm: int) -> "NDArray[np.uint32]":
    import numpy as np

    return np.ascontiguousarray(_empty_sketch(num_perm).permutations)


@cache
def _empty_sketch(num_perm: int) -> "MinHash":
    from datasketch import MinHash

    return MinHash(num_perm, seed=_SEED, hashfunc=int, scheme="affine32")
