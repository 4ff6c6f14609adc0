"""The book of scores: what judges said of conversations, on disk, so that nothing is asked twice.

A score belongs to a judge (its model, its rubric, how it is asked) and to what the conversation
says, not to an id or a run's settings: thresholds change, shards are cut anew, and the same words
have the same score. Every answer is committed when it is given, with the seconds spent so far.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Self

from assistant.scoring import Scored
from usersim.conversation import Message
from usersim.errors import WorldError
from usersim.faults import fault_point
from usersim.files import fingerprint

_NAMES = ", ".join(f.name for f in fields(Scored))
_SCHEMA = """
CREATE TABLE IF NOT EXISTS score (
    judge TEXT NOT NULL, content TEXT NOT NULL,
    outcome TEXT NOT NULL, score REAL, reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (judge, content)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (judge TEXT PRIMARY KEY, seconds REAL NOT NULL);
"""


def content_of(turns: Iterable[Message]) -> str:
    """The same for conversations that say the same, whatever their ids."""
    return fingerprint([[m.role, m.content] for m in turns])


class ScoreBook:
    """The scores by one judge; `judge` is the print of who it is. Use it as a context manager.

    Raises WorldError when the disk refuses.
    """

    def __init__(self, path: Path, judge: str) -> None:
        self.path, self._judge = path, judge
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # A commit survives kill -9 of this process; a power cut costs the last answers.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.DatabaseError) as error:
            raise WorldError(f"cannot write {path}: {error}") from error

    def of(self, content: str) -> Scored | None:
        """What was said of this content, or None."""
        return _look_up(self._db, self._judge, content)

    @property
    def seconds(self) -> float:
        """Spent on asking, over all sittings."""
        return self._one("SELECT seconds FROM spent WHERE judge = ?") or 0.0

    @property
    def size(self) -> int:
        """Number of answers."""
        return int(self._one("SELECT count(*) FROM score WHERE judge = ?") or 0)

    def add(self, answers: Iterable[tuple[str, Scored]], seconds: float) -> None:
        """Write answers down by content; they are there on return. `seconds`: spent in all."""
        rows = [(self._judge, content, *astuple(scored)) for content, scored in answers]
        marks = ", ".join("?" * (2 + len(fields(Scored))))
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                f"INSERT OR REPLACE INTO score (judge, content, {_NAMES}) VALUES ({marks})",  # noqa: S608
                rows,
            )
            self._db.execute("INSERT OR REPLACE INTO spent VALUES (?, ?)", (self._judge, seconds))
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise WorldError(
                f"cannot write {self.path}: {error}. Check free space and permissions, then run the"
                " same command again: every score that was written is kept"
            ) from error
        fault_point("scores.commit")

    def close(self) -> None:
        """Let go of the file, as one that any machine can read."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    def _one(self, query: str) -> float | None:
        row = self._db.execute(query, (self._judge,)).fetchone()
        return row[0] if row else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_scores(path: Path, judge: str, contents: Sequence[str]) -> list[Scored | None]:
    """What one judge said of contents, from a book that nobody writes in."""
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        return [_look_up(db, judge, content) for content in contents]
    finally:
        db.close()


def _look_up(db: sqlite3.Connection, judge: str, content: str) -> Scored | None:
    query = f"SELECT {_NAMES} FROM score WHERE judge = ? AND content = ?"  # noqa: S608
    row = db.execute(query, (judge, content)).fetchone()
    return Scored(*row) if row else None
