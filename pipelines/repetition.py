"""How much a text repeats itself, counted in words."""

import re
from collections.abc import Sequence
from functools import lru_cache

from usersim.encoding import beyond_ascii

# Scripts written without spaces count by character, as in usersim.neardup.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_LONGEST_UNIT = 40  # words: degenerate loops of small models are shorter than two sentences

_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# What is no word among the bytes of ASCII becomes a blank.
_BLANKS = bytes(n if n > 127 or chr(n).isalnum() or n == ord("_") else 32 for n in range(256))


@lru_cache(maxsize=1024)  # several rules read the words of the same conversation
def words_of(text: str) -> tuple[str, ...]:
    """Words in lower case, without punctuation.

    The words of `_WORD`, several times as fast where every script of the text has spaces.
    """
    others = beyond_ascii(text)
    if _SPACELESS.search(others) or not others.isprintable():
        return tuple(_WORD.findall(text.casefold()))
    folded = text.casefold()
    for character in others.casefold():
        if not (character.isalnum() or character == "_"):
            folded = folded.replace(character, " ")
    return tuple(folded.encode().translate(_BLANKS).decode().split())


@lru_cache(maxsize=1024)
def vocabulary(text: str) -> frozenset[str]:
    """The different words of a text."""
    return frozenset(words_of(text))


def duplicate_share(words: Sequence[str], length: int) -> float:
    """Share of the runs of `length` words that occurred earlier in the same text, 0 to 1.

    The idea is Gopher's duplicate n-gram rule (Rae et al. 2021, table A1), counted in runs.
    """
    total = len(words) - length + 1
    if total <= 0:
        return 0.0
    distinct = len(set(zip(*(words[i:] for i in range(length)), strict=False)))
    return 1 - distinct / total


def looping_tail(words: Sequence[str], max_words: int) -> str | None:
    """The unit that a text ends in, four times or more and over more than `max_words` words.

    Units without a letter (table cells, digits) do not count. The shortest unit is returned, or
    None.
    """
    for period in range(1, min(_LONGEST_UNIT, len(words) // 4) + 1):
        run = period
        while run < len(words) and words[-run - 1] == words[-run - 1 + period]:
            run += 1
        if run >= 4 * period and run > max_words:
            unit = " ".join(words[-period:])
            if any(c.isalpha() for c in unit):
                return unit
    return None
