"""Two texts beside each other: which words differ; and which conversations belong side by side."""

from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

from pipelines.dashboard.browse import Browser, Wish

MOST_WORDS = 1500
"""Words of a text that are compared; difflib takes time with the square of them."""
Pieces = list[tuple[str, bool]]
PAIRED = 4000
"""Conversations of each run among which equal openers are looked for."""


def differing(left: str, right: str) -> tuple[Pieces, Pieces]:
    """Both texts in pieces, each with whether the other text lacks it; joined they are the text."""
    sides = [text.split(" ") for text in (left, right)]
    kept = [words[:MOST_WORDS] for words in sides]
    found = SequenceMatcher(None, kept[0], kept[1], autojunk=False)
    pieces: tuple[Pieces, Pieces] = ([], [])
    for kind, left_from, left_to, right_from, right_to in found.get_opcodes():
        bounds = ((left_from, left_to), (right_from, right_to))
        for side, words, (start, end) in zip(pieces, kept, bounds, strict=True):
            if start < end:
                side.append((" ".join(words[start:end]), kind != "equal"))
    for side, words in zip(pieces, sides, strict=True):
        if len(words) > MOST_WORDS:
            side.append((" ".join(words[MOST_WORDS:]), False))
    left_pieces, right_pieces = ([p for piece in side for p in (piece, (" ", False))][:-1]
                                 for side in pieces)  # fmt: skip
    return left_pieces, right_pieces


def twins(browser: Browser, wish: Wish) -> list[dict[str, Any]]:
    """Rejected conversations beside a kept one each: the one they resemble, else a neighbour."""
    rejected = browser.find(replace(wish, outcome="rejected"), page_size=5).rows
    named = [row["twin"] for row in rejected if row.get("twin")]
    kept = browser.openers_of(named)
    usual = browser.find(Wish(outcome="kept", page=wish.page), page_size=5).rows
    twinned = [kept.get(row.get("twin") or "") for row in rejected]
    others = [twin or next(iter(usual[i : i + 1]), None) for i, twin in enumerate(twinned)]
    opened = iter(browser.open_rows([row for row in others if row]))
    lefts = [next(opened) if row else None for row in others]
    pairs = []
    for left, right, twin in zip(lefts, browser.open_rows(rejected), twinned, strict=True):
        marks = differing(_spoken(left), _spoken(right)) if twin and left else None
        pairs.append({"kept": left, "rejected": right, "twin": bool(twin), "words": marks})
    return pairs


def _spoken(opened: Any) -> str:
    return "\n".join(m["content"] for m in opened.messages if m["role"] == "user")


def same_openers(left: Browser, right: Browser, page: int, size: int = 5) -> tuple[list[Any], int]:
    """Conversations of two runs that begin with the same words, opened; and how many there are."""
    by_opener: dict[str, str] = {}
    for row in left.find(Wish(), page_size=PAIRED).rows:
        by_opener.setdefault(_normal(row["opener"]), row["id"])
    pairs: list[tuple[str, str]] = []
    for row in right.find(Wish(), page_size=PAIRED).rows:
        if twin := by_opener.pop(_normal(row["opener"]), None):
            pairs.append((twin, row["id"]))
    shown = pairs[(page - 1) * size : page * size]
    return [(left.open(a), right.open(b)) for a, b in shown], len(pairs)


def _normal(text: str | None) -> str:
    return " ".join((text or "").lower().split())
