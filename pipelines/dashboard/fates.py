"""What curation decided about conversations, joined to the catalogue's narrow rows.

    talks-*.parquet   as simulated        ->   rows-*.parquet   with outcome, reason, verdicts

A kept one of a later recipe may be a rejected one now: the rows are made anew when the decisions
change, and the texts are not read again for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usersim.files import whole_file

if TYPE_CHECKING:
    import duckdb

NUMBERS = ("DOUBLE", "FLOAT", "INTEGER", "BIGINT")
ROW_GROUP = 20_480
"""Rows that are read together to show one page of 25."""
VERDICTS, REJECTED = "curated/verdicts", "rejected/curate.parquet"
_BARE = "NULL::VARCHAR AS {}"


def decisions(run: Path) -> list[Path]:
    """The files that hold what curation decided; none before it did."""
    rejected = run / REJECTED
    return [*sorted((run / VERDICTS).glob("*.parquet")), rejected] if rejected.exists() else []


def decide(duck: "duckdb.DuckDBPyConnection", talks: Path, rows: Path, decided: list[Path]) -> None:
    """Write `rows`: the narrow rows of `talks` with what was decided about each."""
    verdicts = [str(path) for path in decided[:-1]]
    with whole_file(rows) as temporary:
        query = _joined(duck, verdicts) if decided else _undecided()
        files: dict[str, str | Sequence[str]] = {"talks": str(talks)}
        if decided:
            files |= {"rejected": str(decided[-1])} | ({"verdicts": verdicts} if verdicts else {})
        duck.execute(copied(query, temporary), files)


def _undecided() -> str:
    bare = ", ".join(
        _BARE.format(name) for name in ("stage", "reason", "detail", "twin", "language")
    )
    outcome = "CASE kind WHEN 'talk' THEN 'not judged' ELSE 'unfinished' END AS outcome"
    return f"SELECT *, {outcome}, {bare} FROM read_parquet($talks) ORDER BY n"  # noqa: S608


def _joined(duck: "duckdb.DuckDBPyConnection", verdicts: Sequence[str]) -> str:
    """Every number of the verdicts is a score that can be filtered by, whatever its name."""
    judged = "SELECT id FROM read_parquet($talks)"
    names = ", " + _BARE.format("language")
    if verdicts:
        judged = (
            "SELECT DISTINCT ON (id) * FROM read_parquet($verdicts)"
            " WHERE id IN (SELECT id FROM read_parquet($talks))"
        )
        found = duck.execute("DESCRIBE SELECT * FROM read_parquet($f)", {"f": list(verdicts)})
        columns = {name: kind for name, kind, *_ in found.fetchall()}
        scores = [n for n, kind in columns.items() if kind in NUMBERS]
        taken = [n for n in ("language", "tags", "failed", *scores) if n in columns]
        names = "".join(f', v."{name}"' for name in taken)
        names += "" if "language" in columns else ", " + _BARE.format("language")
    return f"""
        SELECT t.*, CASE WHEN t.kind <> 'talk' THEN 'unfinished'
                         WHEN r.id IS NOT NULL THEN 'rejected'
                         WHEN v.id IS NOT NULL THEN 'kept' ELSE 'not judged' END AS outcome,
               r.stage, r.reason, r.detail,
               regexp_extract(r.detail, 'kept=(\\S+)', 1) AS twin{names}
        FROM read_parquet($talks) t LEFT JOIN ({judged}) v ON v.id = t.id
        LEFT JOIN (SELECT DISTINCT ON (id) id, stage, reason, detail FROM read_parquet($rejected)
                   WHERE id IN (SELECT id FROM read_parquet($talks))) r ON r.id = t.id
        ORDER BY t.n
    """  # noqa: S608 - column names of our own file, quoted


def copied(query: str, path: Path) -> str:
    """The statement that writes a query's rows into a Parquet file."""
    place = str(path).replace("'", "''")
    layout = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP}"
    return f"COPY ({query}) TO '{place}' ({layout})"
