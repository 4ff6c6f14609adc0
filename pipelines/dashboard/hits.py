"""The conversations that a search finds: by the index of words, or by reading where it has none."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipelines.dashboard.catalogue import ROWS_PER_SHARD, Catalogue
from pipelines.dashboard.search import fts_left_out, fts_query, terms

if TYPE_CHECKING:
    import duckdb

MOST_HITS = 200_000
"""Conversations that one search may find; with more, the search says so."""
SCANNED_HITS = 200


def hits_of(
    catalogue: Catalogue, duck: "duckdb.DuckDBPyConnection", query: str, side: str
) -> tuple[list[int] | None, str, bool]:
    """Numbers that a search finds, in order, a note, and whether there are more.

    None without a search. `duck` has the view `talk`.
    """
    if not query:
        return None, "", False
    asked, left_out = fts_query(query, side), fts_left_out(query, side)
    note = ""
    if asked is not None:
        numbers = _indexed(catalogue, asked, MOST_HITS + 1)
    elif left_out is not None:
        numbers = _all_but(catalogue, set(_indexed(catalogue, left_out)))
    else:
        numbers = _scanned(catalogue, duck, query, side)
        note = f"No index for this text: shards were read until {SCANNED_HITS} were found."
    capped = len(numbers) == SCANNED_HITS if note else len(numbers) > MOST_HITS
    if not capped:
        own = rows_of(duck, "SELECT n FROM talk WHERE id = ?", [query])
        numbers = sorted({*numbers, *(row["n"] for row in own)})
    return numbers[:MOST_HITS], note, capped


def rows_of(
    duck: "duckdb.DuckDBPyConnection", query: str, values: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """The rows of a query, as tables by column."""
    cursor = duck.execute(query, list(values))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _indexed(catalogue: Catalogue, asked: str, most: int = -1) -> list[int]:
    query = "SELECT rowid FROM words WHERE words MATCH ? LIMIT ?"
    file = f"file:{catalogue.words}?mode=ro"
    with closing(sqlite3.connect(file, uri=True, timeout=30.0)) as db:
        return [row[0] for row in db.execute(query, (asked, most))]


def _all_but(catalogue: Catalogue, gone: set[int]) -> list[int]:
    everything = (
        shard.ordinal * ROWS_PER_SHARD + row
        for shard in catalogue.shards()
        for row in range(shard.rows)
    )
    return list(islice((n for n in everything if n not in gone), MOST_HITS + 1))


def _scanned(
    catalogue: Catalogue, duck: "duckdb.DuckDBPyConnection", text: str, side: str
) -> list[int]:
    files = [s.path for s in catalogue.shards() if s.path.parent.name == "conversations"]
    where, values = _read_for(text, side)
    found: list[int] = []
    for path in files:  # one at a time: the first page of them is enough
        left = SCANNED_HITS - len(found)
        if left <= 0:
            break
        query = f"SELECT id FROM read_parquet(?) WHERE {where} LIMIT ?"  # noqa: S608 - question marks
        wanted = [row["id"] for row in rows_of(duck, query, [str(path), *values, left])]
        query = "SELECT n FROM talk WHERE list_contains(?, id)"
        found += [r["n"] for r in rows_of(duck, query, [wanted])] if wanted else []
    return found


def _read_for(text: str, side: str) -> tuple[str, list[str]]:
    """The condition on `messages`, and its values: all is said but what is to be left out.

    A text without a letter is looked for as it stands.
    """
    sought = [(t.text, t.without) for t in terms(text)] or [(text.strip('"'), False)]
    role = " AND m.role = ?" if side in ("user", "assistant") else ""
    said = f"len(list_filter(messages, lambda m: contains(lower(m.content), lower(?)){role})) > 0"
    conditions = [f"NOT {said}" if without else said for _, without in sought]
    return " AND ".join(conditions), [v for t, _ in sought for v in ([t, side] if role else [t])]
