"""An index of one run's conversations, made once and kept up to date beside them.

    .dashboard/text.sqlite       words of every conversation (SQLite FTS5), and the shards known
    .dashboard/talks-*.parquet   one narrow row a conversation: what lists and filters need
    .dashboard/rows-*.parquet    the same with what curation decided (see `fates`)

A conversation's number is its shard's ordinal and its row there, so nothing has to be looked up to
open it. Shards are taken up once, in batches; a run that was made anew is indexed anew. Everything
here can be deleted at any time. DuckDB reads the shards, so that no shard is whole in memory.
"""

import fcntl
import json
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.dashboard.fates import copied, decide, decisions
from usersim.errors import InputError
from usersim.files import read_rows, sweep, whole_file

if TYPE_CHECKING:
    import duckdb

ROWS_PER_SHARD = 2**20
BATCH_FILES, BATCH_ROWS = 200, 50_000
MEMORY_LIMIT = "400MB"
EXCERPT = 200
UNFINISHED = Path("rejected") / "simulate.parquet"
Signature = tuple[str, int, int]

_TALKS = """
SELECT p.ordinal * {rows} + t.file_row_number AS n, p.path AS shard, t.file_row_number AS row,
       t.id, t.stop_reason, t.persona_id AS persona, t.assistant_model, 'talk' AS kind,
       len(list_filter(t.messages, lambda m: m.role = 'assistant'))::INT AS rounds,
       left(list_filter(t.messages, lambda m: m.role = 'user')[1].content, {excerpt}) AS opener,
       left(list_filter(t.messages, lambda m: m.role = 'assistant')[1].content, {excerpt}) AS answer
FROM read_parquet($files, filename = true, file_row_number = true, union_by_name = true) t
JOIN places p ON p.file = t.filename
"""
_TEXTS = """
SELECT p.ordinal * {rows} + t.file_row_number AS n,
       array_to_string(list_transform(list_filter(t.messages, lambda m: m.role = 'user'),
                                      lambda m: m.content), chr(10)),
       array_to_string(list_transform(list_filter(t.messages, lambda m: m.role = 'assistant'),
                                      lambda m: m.content), chr(10))
FROM read_parquet($files, filename = true, file_row_number = true, union_by_name = true) t
JOIN places p ON p.file = t.filename
"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS shard (
    ordinal INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, size INTEGER NOT NULL,
    changed INTEGER NOT NULL, rows INTEGER NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(
    user, assistant, content = '', tokenize = 'unicode61 remove_diacritics 2'
);
"""


@dataclass(frozen=True, slots=True)
class Shard:
    """A data file that is indexed, or about to be."""

    ordinal: int
    path: Path
    rows: int


class Catalogue:
    """The index of one run. Any number of threads may read while one refreshes it."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = _cache_folder(run)
        self._busy = threading.Lock()
        self.pending = 0
        """Shards that are there and not indexed yet."""
        self.problem = ""
        """What kept the last refresh from being whole."""

    @property
    def busy(self) -> bool:
        """Whether a refresh is under way."""
        return self._busy.locked()

    @property
    def words(self) -> Path:
        """The text index."""
        return self.folder / "text.sqlite"

    def talks(self) -> list[str]:
        """Files of the narrow rows, those of whole batches only."""
        known = {shard.ordinal for shard in self.shards()}
        chunks = sorted(self.folder.glob("talks-*.parquet"))
        return [str(c) for c in chunks if int(c.stem.rpartition("-")[2]) in known]

    def rows(self) -> list[str]:
        """Files of the same rows with what curation decided."""
        return [str(_rows_of(Path(path))) for path in self.talks()]

    def shards(self) -> list[Shard]:
        """The shards that are indexed; none while the index is being made, or made anew."""
        if not self.words.exists():
            return []
        # A refresh in another thread: the file is there and its tables are not, or it just went.
        with suppress(sqlite3.OperationalError), closing(self._open(readonly=True)) as db:
            rows = db.execute("SELECT ordinal, path, rows FROM shard ORDER BY ordinal")
            return [Shard(n, self.run / path, count) for n, path, count in rows]
        return []

    def state(self) -> tuple[Signature, ...]:
        """Changes whenever an answer could."""
        return tuple(_signatures(self.folder, map(Path, self.rows())))

    def connect(self) -> "duckdb.DuckDBPyConnection":
        """A DuckDB of its own, which spills to the index's folder before it takes much memory."""
        import duckdb

        spill = str(self.folder / "spill")
        return duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill})

    def _open(self, readonly: bool = False) -> sqlite3.Connection:
        mode = "ro" if readonly else "rwc"
        return sqlite3.connect(f"file:{self.words}?mode={mode}", uri=True, timeout=30.0)

    def refresh(self) -> bool:
        """Index what is new; False when somebody else is at it. Meant for a thread of its own."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            with _alone(self.folder) as alone:
                if alone:
                    self.problem = ""
                    self._refresh()
                return alone
        except Exception as error:  # noqa: BLE001 - shown on the page; a thread has no other place
            self.problem = f"{type(error).__name__}: {error}"
            return False
        finally:
            self._busy.release()

    def _refresh(self) -> None:
        sweep(self.folder)
        found = list(_signatures(self.run, _data_files(self.run)))
        with closing(self._open()) as db:
            db.executescript(_SCHEMA)
            known = {r[0]: r for r in db.execute("SELECT path, size, changed FROM shard")}
        if any(signature not in found for signature in known.values()):
            self._forget()
            known = {}
        new = [signature for signature in found if signature[0] not in known]
        with closing(self._open()) as db:
            db.executescript(f"PRAGMA journal_mode = WAL; {_SCHEMA}")
            for batch in self._batches(db, new):
                self._take_up(db, batch)
            self.pending = 0
        self._decide()

    def _forget(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _batches(
        self, db: sqlite3.Connection, new: Sequence[Signature]
    ) -> Iterator[list[tuple[Shard, Signature]]]:
        import pyarrow.parquet as pq

        first = db.execute("SELECT coalesce(max(ordinal) + 1, 0) FROM shard").fetchone()[0]
        batch: list[tuple[Shard, Signature]] = []
        self.pending = len(new)
        for ordinal, signature in enumerate(new, first):
            path = self.run / signature[0]
            shard = Shard(ordinal, path, pq.ParquetFile(path).metadata.num_rows)
            batch.append((shard, signature))
            if len(batch) == BATCH_FILES or sum(s.rows for s, _ in batch) >= BATCH_ROWS:
                yield batch
                self.pending -= len(batch)
                batch = []
        if batch:
            yield batch

    def _take_up(self, db: sqlite3.Connection, batch: list[tuple[Shard, Signature]]) -> None:
        """One batch: its narrow rows to a file, its words to the index, then both count."""
        shards = [shard for shard, _ in batch]
        chunk = self.folder / f"talks-{shards[0].ordinal:06d}.parquet"
        talks = [s for s in shards if s.path != self.run / UNFINISHED]
        unfinished = [s for s in shards if s.path == self.run / UNFINISHED]
        with closing(self.connect()) as duck, whole_file(chunk) as temporary:
            parts = [_TALKS] if talks else []
            if unfinished:
                duck.register("unfinished", _unfinished(unfinished[0], self.run))
                parts.append("SELECT * FROM unfinished")
            sources = " UNION ALL BY NAME ".join(parts).format(rows=ROWS_PER_SHARD, excerpt=EXCERPT)
            files = self._place(duck, talks)
            duck.execute(copied(sources, temporary), files)
        decided = [self.run / path for path, _, _ in self._decisions()]
        with closing(self.connect()) as duck:
            decide(duck, chunk, _rows_of(chunk), decided)
            if talks:
                files = self._place(duck, talks)
                duck.execute(_TEXTS.format(rows=ROWS_PER_SHARD), files)
                while rows := duck.fetchmany(2000):
                    db.executemany(
                        "INSERT INTO words (rowid, user, assistant) VALUES (?, ?, ?)", rows
                    )
        db.executemany(
            "INSERT INTO shard VALUES (?, ?, ?, ?, ?)",
            [(s.ordinal, path, size, changed, s.rows) for s, (path, size, changed) in batch],
        )
        db.commit()

    def _place(self, duck: "duckdb.DuckDBPyConnection", shards: list[Shard]) -> dict[str, Any]:
        """Make the table of ordinals by file; returns the query's parameters."""
        import pyarrow as pa

        files = [str(shard.path) for shard in shards]
        inside = [shard.path.relative_to(self.run).as_posix() for shard in shards]
        ordinals = [shard.ordinal for shard in shards]
        duck.register(
            "places",
            pa.table({"file": files, "path": inside, "ordinal": pa.array(ordinals, pa.int64())}),
        )
        return {"files": files} if files else {}

    def _decisions(self) -> list[Signature]:
        return list(_signatures(self.run, decisions(self.run)))

    def _decide(self) -> None:
        """Make the rows anew that were made under other decisions than those there are now."""
        now, mark = self._decisions(), self.folder / "decided.json"
        known = None
        with suppress(OSError, ValueError):
            known = json.loads(mark.read_text(encoding="utf-8"))
        stale = known is not None and known != [list(signature) for signature in now]
        with closing(self.connect()) as duck:
            for path in map(Path, self.talks()):
                if stale or not _rows_of(path).exists():
                    decide(duck, path, _rows_of(path), [self.run / name for name, _, _ in now])
        if known is None or stale:
            mark.write_text(json.dumps(now), encoding="utf-8")


def _unfinished(shard: Shard, run: Path) -> Any:
    """Narrow rows of conversations that simulation gave up, whose records hold attempts."""
    import pyarrow as pa

    rows = []
    for number, row in enumerate(read_rows(shard.path)):
        spoken = attempts(str(row.get("record") or ""))
        rows.append(
            {
                "n": shard.ordinal * ROWS_PER_SHARD + number,
                "shard": shard.path.relative_to(run).as_posix(),
                "row": number,
                "id": str(row.get("id")),
                "stop_reason": str(row.get("reason")),
                "kind": "unfinished",
                "rounds": 0,
                "opener": spoken[0]["content"][:EXCERPT] if spoken else "",
            }
        )
    text, count = pa.string(), pa.int64()
    fields = [("n", count), ("shard", text), ("row", count), ("id", text), ("stop_reason", text)]
    fields += [("kind", text), ("rounds", pa.int32()), ("opener", text), ("answer", text)]
    schema = pa.schema([*fields, ("persona", text), ("assistant_model", text)])
    return pa.Table.from_pylist(rows, schema=schema)


def attempts(record: str) -> list[dict[str, str]]:
    """Role and text of what a rejected record holds; empty where it holds nothing of the kind."""
    with suppress(ValueError, RecursionError, AttributeError):
        table = json.loads(record)
        found = table.get("messages") or table.get("attempts") or []
        return [
            {
                "role": str(m.get("role")),
                "content": str(m.get("content") or ""),
                "refused": str(m.get("refused") or ""),
            }
            for m in found
            if isinstance(m, dict)
        ]
    return []


def _data_files(run: Path) -> Iterator[Path]:
    yield from sorted((run / "conversations").glob("part-*.parquet"))
    if (run / UNFINISHED).exists():
        yield run / UNFINISHED


def _signatures(root: Path, paths: Iterable[Path]) -> Iterator[Signature]:
    for path in paths:
        with suppress(FileNotFoundError):
            known = path.stat()
            yield path.relative_to(root).as_posix(), known.st_size, known.st_mtime_ns


def _cache_folder(run: Path) -> Path:
    """Beside the conversations; where that cannot be written, a folder that goes with us."""
    if not run.is_dir():
        raise InputError(f"{run} is no run folder")
    folder = run / ".dashboard"
    try:
        folder.mkdir(exist_ok=True)
        (folder / "lock").touch()
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="realchat-dashboard-"))
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other dashboard is indexing the run."""
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _rows_of(talks: Path) -> Path:
    return talks.with_name(talks.name.replace("talks-", "rows-"))
