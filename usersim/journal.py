"""The journal of a shard: every turn the moment it is finished, every ending once. SQLite.

Durability. The journal runs in WAL mode with `synchronous=NORMAL`: a commit is written to the
operating system at once, so it survives `kill -9` of this process. Once every `SYNC_S` what was
committed since is synced (a checkpoint), so a power cut or a crash of the kernel takes the commits
of that time at most; then those turns are asked for again, and the journal itself is consistent.
Commits are grouped: whatever is finished within `linger_s` goes into one transaction.

A journal in a folder that several machines share keeps a rollback journal instead: WAL needs memory
that all its users share. There its commits are synced, and so grouped more widely.

Leases. Who takes up a journal to work on it claims it, and a later claim ends the earlier one:
every commit asks inside its own transaction whether the claim still stands. A worker that was given
up and writes all the same is told so, and changes nothing.
"""

import asyncio
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Self

from usersim.conversation import Role, StopReason
from usersim.errors import InputError, WorldError
from usersim.faults import fault_point

JOURNAL_VERSION = 1
SYNC_S = 1.0  # what a power cut may take; a sync costs milliseconds, a turn takes seconds
LOCK_WAIT_S = 30.0  # a commit elsewhere may take as long as a slow shared disk does
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
SHARED_LINGER_S = 0.02  # some synced commits a second do; a turn takes seconds


class Fenced(WorldError):
    """Another worker has claimed the journal: nothing of this one's goes in any more."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One completion of a turn: accepted when `reason` is empty, else refused for that reason."""

    conversation: int
    """The conversation's index in the run."""
    position: int
    """The turn's position in the conversation, 0 is the opener."""
    attempt: int
    role: Role
    reason: str
    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @property
    def accepted(self) -> bool:
        """Whether the turn stands in the conversation."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a conversation is over; `reason` and `detail` say more where that is a failure."""

    conversation: int
    stop_reason: StopReason
    reason: str = ""
    detail: str = ""


# A row's values in order; dataclasses.astuple copies deeply, at ten times the cost.
_ATTEMPT = attrgetter(*(f.name for f in fields(Attempt)))
_ENDING = attrgetter(*(f.name for f in fields(Ending)))

_SCHEMA = """
CREATE TABLE IF NOT EXISTS owner (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lease (number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS attempt (
    conversation INTEGER NOT NULL, position INTEGER NOT NULL, attempt INTEGER NOT NULL,
    role TEXT NOT NULL, reason TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    PRIMARY KEY (conversation, position, attempt)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS accepted_once ON attempt (conversation, position)
    WHERE reason = '';
CREATE TABLE IF NOT EXISTS ending (
    conversation INTEGER PRIMARY KEY, stop_reason TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS retired (conversation INTEGER NOT NULL, record TEXT NOT NULL);
"""


class Journal:
    """The turns and endings of one shard, on disk when `add` returns.

    `shared` is for a folder that several machines see.

    Raises InputError when the file belongs to another run or is damaged, WorldError when the disk
    refuses.
    """

    _sync_due: asyncio.TimerHandle | None = None

    def __init__(
        self,
        path: Path,
        owner: Mapping[str, str | int],
        linger_s: float = 0.002,
        shared: bool = False,
    ) -> None:
        self.path = path
        self._linger_s = SHARED_LINGER_S if shared else linger_s
        self._syncs_itself = shared  # each commit, as SQLite is told below
        self._pending: list[tuple[Attempt | Ending, asyncio.Future[None]]] = []
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=LOCK_WAIT_S)
            self._db.execute(f"PRAGMA journal_mode = {'TRUNCATE' if shared else 'WAL'}")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if shared else 'NORMAL'}")
            self._db.executescript(_SCHEMA)
            self.lease = self._last_lease()
            """The claim under which this writes: its own, or the last one there was."""
            self._claim({k: str(v) for k, v in owner.items()} | {"version": str(JOURNAL_VERSION)})

    def _claim(self, owner: dict[str, str]) -> None:
        found: dict[str, str] = dict(self._db.execute("SELECT name, value FROM owner"))
        if not found:
            with self._transaction():
                self._db.executemany("INSERT INTO owner VALUES (?, ?)", owner.items())
        elif found != owner:
            keys = sorted(k for k in found.keys() | owner.keys() if found.get(k) != owner.get(k))
            differs = ", ".join(f"{k}: {found.get(k)} there, {owner.get(k)} now" for k in keys)
            self._db.close()
            raise InputError(
                f"{self.path} belongs to another run ({differs}): use another run folder,"
                " or the recipe that began this one"
            )

    def claim(self, lease: int | None = None) -> None:
        """Take the journal up, ending every earlier claim. Claims count up; None is the next one.

        Raises Fenced when `lease` is not above the last claim.
        """
        with _disk_errors(self.path), self._transaction():
            last = self._last_lease()
            lease = last + 1 if lease is None else lease
            if lease <= last:
                raise Fenced(f"{self.path} was claimed under lease {last}, this one is {lease}")
            self._db.execute("DELETE FROM lease")
            self._db.execute("INSERT INTO lease VALUES (?)", (lease,))
        self.lease = lease

    def _last_lease(self) -> int:
        row = self._db.execute("SELECT max(number) FROM lease").fetchone()
        return row[0] or 0

    def attempts(self, only: Sequence[int] | None = None) -> Iterator[Attempt]:
        """Every attempt, or those of `only` these conversations, in the order they were made."""
        yield from self._select(*_among(only))

    def openers(self) -> Iterator[Attempt]:
        """The accepted openers, in order."""
        yield from self._select("WHERE position = 0 AND reason = ''")

    def _select(self, where: str, values: tuple[str, ...] = ()) -> Iterator[Attempt]:
        names = ", ".join(f.name for f in fields(Attempt))
        order = "ORDER BY conversation, position, attempt"
        found = f"SELECT {names} FROM attempt {where} {order}"  # noqa: S608
        with _damage_told(self.path):
            for row in self._db.execute(found, values):
                yield Attempt(*row)

    def endings(self, only: Sequence[int] | None = None) -> dict[int, Ending]:
        """Endings by conversation index, all of them or of `only` these."""
        where, values = _among(only)
        names = ", ".join(f.name for f in fields(Ending))
        with _damage_told(self.path):
            rows = self._db.execute(f"SELECT {names} FROM ending {where}", values)  # noqa: S608
            return {row[0]: Ending(*row) for row in rows}

    def retire(self, conversations: Iterable[int]) -> None:
        """Put conversations aside, so that they are held again from the start; all or none."""
        endings = self.endings()
        aside: dict[int, tuple[list[Attempt], Ending | None]]
        aside = {index: ([], endings.get(index)) for index in conversations}
        for attempt in self.attempts():
            if attempt.conversation in aside:
                aside[attempt.conversation][0].append(attempt)
        rows = [(index, _as_json(*record)) for index, record in aside.items()]
        with _disk_errors(self.path), self._transaction():
            self._db.executemany("INSERT INTO retired VALUES (?, ?)", rows)
            for table in ("attempt", "ending"):
                gone = f"DELETE FROM {table} WHERE conversation = ?"  # noqa: S608
                self._db.executemany(gone, [(index,) for index in aside])

    def retries(self) -> dict[int, int]:
        """How often conversations were put aside, by their index; those that never were are not."""
        found = "SELECT conversation, count(*) FROM retired GROUP BY conversation"
        return dict(self._db.execute(found))

    def put_aside(self) -> Iterator[Attempt]:
        """What was said in conversations before they were put aside."""
        for (record,) in self._db.execute("SELECT record FROM retired"):
            yield from (Attempt(**told) for told in json.loads(record)["attempts"])

    async def add(self, entry: Attempt | Ending) -> None:
        """Write an entry; it is durable on return. Adding one twice is a bug and raises."""
        loop = asyncio.get_running_loop()
        if not self._pending:
            loop.call_later(self._linger_s, self.flush)
            if self._sync_due is None and not self._syncs_itself:
                self._sync_later()
        written: asyncio.Future[None] = loop.create_future()
        self._pending.append((entry, written))
        await written

    def flush(self) -> None:
        """Commit what is pending, in one transaction.

        What goes wrong is told to those who wait, bugs too: the loop that calls this would only log
        it, and they would wait for ever.
        """
        batch, self._pending = self._pending, []
        if not batch:
            return
        try:
            self._commit([entry for entry, _ in batch])
        except Exception as error:  # noqa: BLE001 - each waiting `add` raises it
            _resolve(batch, error)
        else:
            _resolve(batch, None)

    def _sync_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sync_due = loop.call_later(self._linger_s + SYNC_S, self._sync)

    def _sync(self) -> None:
        """Have the disk keep what is committed; a disk that refuses refuses the next commit too."""
        self._sync_due = None
        if self._pending:  # to be committed after this
            self._sync_later()
        fault_point("journal.sync")
        with suppress(sqlite3.DatabaseError):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        fault_point("journal.synced")

    def _commit(self, entries: list[Attempt | Ending]) -> None:
        attempts = [_ATTEMPT(e) for e in entries if isinstance(e, Attempt)]
        endings = [_ENDING(e) for e in entries if isinstance(e, Ending)]
        fault_point("journal.begin")
        with _disk_errors(self.path), self._transaction():
            if (last := self._last_lease()) != self.lease:
                raise Fenced(f"{self.path} was claimed under lease {last}, not {self.lease}")
            self._db.executemany(f"INSERT INTO attempt VALUES ({_marks(Attempt)})", attempts)  # noqa: S608
            self._db.executemany(f"INSERT INTO ending VALUES ({_marks(Ending)})", endings)  # noqa: S608
            fault_point("journal.inside")
        fault_point("journal.commit")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # a full disk has SQLite do it by itself
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Commit what is pending and let go of the file. Calling it twice is allowed."""
        self.flush()
        if self._sync_due is not None:
            self._sync_due.cancel()
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _among(conversations: Sequence[int] | None) -> tuple[str, tuple[str, ...]]:
    """The condition that rows are of these conversations, and its value; None is all."""
    if conversations is None:
        return "", ()
    listed = "WHERE conversation IN (SELECT value FROM json_each(?))"
    return listed, (json.dumps(list(conversations)),)


def _as_json(attempts: list[Attempt], ending: Ending | None) -> str:
    record = {"attempts": [asdict(a) for a in attempts], "ending": ending and asdict(ending)}
    return json.dumps(record, ensure_ascii=False)


def _marks(kind: type[Attempt] | type[Ending]) -> str:
    return ", ".join("?" for _ in fields(kind))


def _resolve(
    batch: list[tuple[Attempt | Ending, asyncio.Future[None]]], error: Exception | None
) -> None:
    for _, written in batch:
        if written.done():  # its conversation was cancelled while it waited
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Say what to do about a file that SQLite cannot make out; running again is no help."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
            raise
        raise InputError(
            f"the journal {path} is damaged ({error}): restore it from a copy, or remove it and the"
            " data file of the same name, and its conversations are held again"
        ) from error


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Say what the disk's refusals mean; a broken constraint is our bug and passes through."""
    try:
        with _damage_told(path):
            yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise WorldError(
            f"cannot write the journal {path}: {error}. Check free space and permissions, then"
            " run the same command again: finished turns are kept"
        ) from error
    except OSError as error:
        raise WorldError(f"cannot write the journal {path}: {error.strerror or error}") from error


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone; the lock goes with the process, however it ends.

    Raises WorldError when another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise WorldError(f"cannot write into {folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WorldError(
            f"another process is simulating into {folder.parent}: wait for it or stop it"
        ) from error
    except OSError as error:  # of some file systems of networks
        raise WorldError(f"{folder} cannot be locked: {error.strerror or error}") from error
    else:
        yield
    finally:
        os.close(handle)
