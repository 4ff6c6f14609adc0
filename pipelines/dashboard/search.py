"""What somebody types into the search field, as a question to the text index, and as marked text.

landlord letter      both words          "late rent"   the phrase
rent*                words that begin so     -python   without that word
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

SHORTEST_BEGINNING = 3
_PIECE = re.compile(r'(?P<no>-)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))')
# Scripts that put no blanks between words, which the index keeps as one long word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing to look for."""

    text: str
    prefix: bool = False
    without: bool = False

    @property
    def quoted(self) -> str:
        """As SQLite's FTS5 reads it: a string, so that nothing in it is an operator."""
        text = self.text.replace('"', '""')
        return f'"{text}"' + ("*" if self.prefix else "")


def terms(query: str) -> list[Term]:
    """The words and phrases of a query that have a letter or digit in them."""
    found = []
    for piece in _PIECE.finditer(query):
        text = piece["phrase"] if piece["phrase"] is not None else piece["word"]
        starred = piece["phrase"] is None and text.endswith("*")
        text = text.rstrip("*") if starred else text
        prefix = starred and len(text) >= SHORTEST_BEGINNING
        if re.search(r"\w", text):
            found.append(Term(text, prefix, bool(piece["no"])))
    return found


def fts_query(query: str, side: str = "") -> str | None:
    """The query in the syntax of FTS5; None where the word index cannot answer it.

    `side` is "user" or "assistant" to look in what one of them said only.
    """
    found = terms(query)
    wanted = [t.quoted for t in found if not t.without]
    if not wanted or any(_UNSPACED.search(t.text) for t in found):
        return None
    asked = f"{_column(side)}({' AND '.join(wanted)})"
    without = [t.quoted for t in found if t.without]
    return f"{asked} NOT ({' OR '.join(without)})" if without else asked


def fts_left_out(query: str, side: str = "") -> str | None:
    """What a query that only leaves out (`-python`) does not want, in the syntax of FTS5.

    None for any other query, and where the word index cannot answer it.
    """
    found = terms(query)
    if not found or any(not t.without or _UNSPACED.search(t.text) for t in found):
        return None
    return f"{_column(side)}({' OR '.join(t.quoted for t in found)})"


def _column(side: str) -> str:
    return f"{{{side}}} : " if side in ("user", "assistant") else ""


def marked(text: str, query: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, each with whether it is what the query looks for."""
    patterns = [
        re.escape(t.text) + (r"\w*" if t.prefix else "") for t in terms(query) if not t.without
    ]
    if not patterns:
        yield text, False
        return
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", re.IGNORECASE)
    end = 0
    for hit in pattern.finditer(text):
        if hit.start() > end:
            yield text[end : hit.start()], False
        if hit.group():
            yield hit.group(), True
        end = max(end, hit.end())
    if end < len(text):
        yield text[end:], False
