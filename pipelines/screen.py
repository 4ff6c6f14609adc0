"""Many patterns looked for at once: one pass of Hyperscan over a text tells which may be found.

    screen = Screen({"leak": (phrases.TEMPLATE_TOKEN,), "thanks": (phrases.FAREWELL,)})
    screen.may_hold("thank you!") == {"thanks"}

What it does not name is not there, whatever Python's `re` is asked; what it names may be. Hyperscan
knows letters, digits and blanks of ASCII only (its Unicode tables take minutes to compile), so each
pattern is loosened first: outside ASCII every character may be a letter, a digit or a blank, word
boundaries and lookarounds are left out, long bounded repeats have no bound.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import hyperscan

_PIECE = re.compile(
    r"(?P<point>\\u[0-9a-f]{4}|\\U[0-9a-f]{8})|(?P<edge>\\b)|(?P<kind>\\[wds])|\\."
    r"|(?P<repeat>\{0,\d+\})|(?P<begin>\[\^?)|(?P<end>\])|.",
    re.DOTALL,
)
_BEYOND = r"\x{80}-\x{10ffff}"
_SEPARATORS = r"\x1c-\x1f"  # blanks for Python alone
# Characters that are letters of ASCII in another case, for Python and not for Hyperscan.
_CASED_ELSEWHERE = re.compile(r"[\u0130\u0131\u017f\u212a]")


_NOTHING = frozenset[str]()


class Screen:
    """Names, each with the patterns of which one at least must be found."""

    def __init__(self, wanted: Mapping[str, Sequence[re.Pattern[str]]]) -> None:
        patterns = [(name, pattern) for name, group in wanted.items() for pattern in group]
        self._names = [name for name, _ in patterns]
        self._everything = frozenset(self._names)
        self._database = _compiled(tuple(pattern for _, pattern in patterns))

    def may_hold(self, text: str) -> frozenset[str]:
        """Names of which a pattern may be found by `search` in the text, or in a part of it."""
        found: list[int] = []
        try:
            self._database.scan(text.encode(), match_event_handler=_enter, context=found)
        except UnicodeEncodeError:  # half an emoji
            return self._everything
        if not found:
            return _NOTHING
        if len(self._names) in found:
            return self._everything
        return frozenset(self._names[number] for number in found)


def _enter(number: int, _start: int, _end: int, _flags: int, found: Any) -> None:
    found.append(number)


@lru_cache(maxsize=2)  # half a second
def _compiled(patterns: tuple[re.Pattern[str], ...]) -> "hyperscan.Database":
    """The patterns by number, and as the last one characters before which all may be found."""
    import hyperscan as hs

    database = hs.Database(mode=hs.HS_MODE_BLOCK)
    every = (*patterns, _CASED_ELSEWHERE)
    how = hs.HS_FLAG_UTF8 | hs.HS_FLAG_PREFILTER | hs.HS_FLAG_SINGLEMATCH | hs.HS_FLAG_ALLOWEMPTY
    flags = {re.IGNORECASE: hs.HS_FLAG_CASELESS, re.MULTILINE: hs.HS_FLAG_MULTILINE}
    database.compile(
        expressions=[loosened(pattern.pattern).encode() for pattern in every],
        ids=list(range(len(every))),
        flags=[
            sum((to for flag, to in flags.items() if pattern.flags & flag), how)
            for pattern in every
        ],
    )
    return database


def loosened(pattern: str) -> str:
    """The pattern as Hyperscan reads it, finding no less than Python does."""
    return "".join(_loosened(pattern))


def _loosened(pattern: str) -> Iterator[str]:
    inside = False  # of [brackets]
    for piece in _PIECE.finditer(pattern):
        kind, here = piece.lastgroup, piece[0]
        if kind == "point":
            yield rf"\x{{{here[2:]}}}"
        elif kind == "kind":
            wide = here + _BEYOND + (_SEPARATORS if here == r"\s" else "")
            yield wide if inside else f"[{wide}]"
        elif inside:
            inside = kind != "end"
            yield here
        elif kind == "repeat":
            yield "*"
        elif kind != "edge":
            inside = kind == "begin"
            yield here
