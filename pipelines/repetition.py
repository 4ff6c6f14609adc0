"""How much a text repeats itself, counted in words."""

from collections.abc import Sequence

_LONGEST_UNIT = 40  # words: degenerate loops of small models are shorter than two sentences


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
