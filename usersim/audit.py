"""Proof of a simulation: what the run folder holds, against the plan and the journals.

Nothing here writes. Each finding is one line that names the file and the conversation; a folder
without findings lost nothing, doubled nothing and holds no half turn.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from usersim.conversation import Conversation, Rejection
from usersim.errors import InputError
from usersim.files import read_footer, read_rows
from usersim.journal import Journal
from usersim.outcome import (
    FIGURES,
    STAGE,
    Lineage,
    Record,
    ShardFigures,
    Spent,
    Tally,
    outcome,
    records,
)
from usersim.plan import Agenda, Shard


@dataclass(slots=True)
class Check:
    """One thing that was looked at: what was found, and what is wrong with it."""

    name: str
    found: str = ""
    problems: list[str] = field(default_factory=list)

    def same(self, what: str, found: Any, expected: Any) -> None:
        """A problem unless both are equal."""
        if found != expected:
            self.problems.append(f"{what}: {shown(found)}, it should be {shown(expected)}")


def shown(value: Any) -> str:
    """A value in at most 80 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


class ReadJournal(Journal):
    """A journal that is only read: the file stays as it is to the byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = []
        # Without a log beside it the file is whole, and may be on a read-only disk. One that a kill
        # left to be rolled back cannot be read here, which is a finding: going on mends it.
        logged = any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal"))
        mode = "mode=ro" if logged else "mode=ro&immutable=1"
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)

    def owner(self) -> dict[str, str]:
        """Whose journal it is."""
        return dict(self._db.execute("SELECT name, value FROM owner"))

    def damage(self) -> str:
        """What SQLite finds wrong with the file; empty when nothing."""
        found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        return "" if found == "ok" else str(found)


class Audit:
    """Goes through a simulation shard by shard; memory holds one shard and the rejected rows."""

    def __init__(self, agenda: Agenda, lineage: Lineage, run: Path) -> None:
        self._agenda, self._lineage, self._run = agenda, lineage, run
        self.tally = Tally()
        """Figures counted again, from the journals."""
        self.journals = Check("journals")
        self.conversations = Check("conversations")
        self.rejected = Check("rejected")
        self._refused: dict[str, dict[str, Any]] = {}
        self._published = 0

    def checks(self) -> list[Check]:
        """Look at all of it."""
        shards = self._agenda.shards()
        self._read_rejected()
        for shard in shards:
            self._look_at(shard)
        self._strangers(shards)
        planned = self._agenda.settings.conversations
        self.rejected.problems += [f"{key} is rejected, but not planned" for key in self._refused]
        self.journals.found = f"{self.tally.ended} of {planned} planned conversations ended"
        self.conversations.found = f"{self._published} published in {len(shards)} shards"
        return [self.journals, self.conversations, self.rejected]

    def figures(self, told: dict[str, Any]) -> Check:
        """What metrics.json says of the simulation, against what the journals say."""
        check = Check("figures of simulate", f"{told.get('conversations')} conversations")
        measured = {*Spent().to_dict(), "tokens_per_s"}  # of the sittings, not of the turns
        for key, value in self.tally.figures(Spent()).items():
            if key not in measured:
                check.same(key, told.get(key), value)
        return check

    def _read_rejected(self) -> None:
        path = self._run / "rejected" / f"{STAGE}.parquet"
        rows = _rows(path, self.rejected)
        for key, times in Counter(row["id"] for row in rows).items():
            if times > 1:
                self.rejected.problems.append(f"{key} is rejected {times} times")
        self._refused = {row["id"]: row for row in rows}
        self.rejected.found = f"{len(rows)} rejected"

    def _look_at(self, shard: Shard) -> None:
        figures = ShardFigures()
        expected = self._expected(shard, figures)
        rows = self._rows_of(shard)
        self._compare_footer(shard, figures)
        name = shard.data(self._run).name
        for index in range(shard.first, shard.first + shard.size):
            key = self._agenda.plan(index).id
            self._place(f"{name}: {key}", expected.get(key), rows.pop(key, []))
            self._compare_refused(key, expected.get(key), self._refused.pop(key, None))
        self.conversations.problems += [f"{name}: {key} is not planned here" for key in rows]

    def _compare_footer(self, shard: Shard, counted: ShardFigures) -> None:
        """The figures in the data file's footer; a file of an earlier version has none."""
        self.tally.counts.update(counted.tally.counts)
        path = shard.data(self._run)
        with suppress(InputError):  # a file that cannot be read was told of with its rows
            told = read_footer(path, FIGURES)
            if told is not None and told != counted.to_json():
                self.conversations.problems.append(
                    f"{path.name}: the figures in its footer are not those of its journal"
                )

    def _expected(self, shard: Shard, figures: ShardFigures) -> dict[str, Conversation | Rejection]:
        """What the shard's journal says must be published or rejected, by id; it is counted."""
        path = shard.journal(self._run)
        problems = self.journals.problems
        if not path.is_file():
            problems.append(f"{path.name} is missing")
            return {}
        try:
            with closing(ReadJournal(path)) as journal:
                self._look_at_file(shard, journal)
                pairs = (
                    (record, result)
                    for record in records(journal)
                    if (result := self._outcome(path.name, shard, record)) is not None
                )
                counted = figures.counted(pairs, journal.put_aside())
                return {result.id: result for result in counted}
        except (sqlite3.Error, InputError) as error:
            problems.append(f"{path.name} cannot be read: {error}")
            return {}

    def _look_at_file(self, shard: Shard, journal: ReadJournal) -> None:
        if damage := journal.damage():
            self.journals.problems.append(f"{journal.path.name} is damaged: {damage}")
        owner = journal.owner()
        for key, value in self._agenda.owner(shard).items():
            self.journals.same(f"{journal.path.name}: {key}", owner.get(key), str(value))

    def _outcome(self, name: str, shard: Shard, record: Record) -> Conversation | Rejection | None:
        plan, problems = self._agenda.plan(record.index), self.journals.problems
        place = f"{name}: conversation {record.index}"
        if not shard.first <= record.index < shard.first + shard.size:
            problems.append(f"{place} is not planned here")
            return None
        problems += [f"{place} {broken}" for broken in broken_turns(record)]
        if record.ending is None:
            problems.append(f"{place} ({plan.id}) has not ended")
            return None
        try:
            result = outcome(record, plan, self._lineage)
        except InputError as error:
            problems.append(f"{place} is no conversation: {error.args[0]}")
            return None
        return result

    def _rows_of(self, shard: Shard) -> dict[str, list[dict[str, Any]]]:
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in _rows(shard.data(self._run), self.conversations):
            self._published += 1
            rows.setdefault(str(row.get("id")), []).append(row)
        return rows

    def _place(
        self, place: str, expected: Conversation | Rejection | None, rows: list[dict[str, Any]]
    ) -> None:
        """A planned conversation's rows: one if it was published, none if it was rejected."""
        problems = self.conversations.problems
        if len(rows) > 1:
            problems.append(f"{place} stands there {len(rows)} times")
        for row in rows:
            problems += [f"{place} {broken}" for broken in broken_row(row)]
        if isinstance(expected, Conversation) and not rows:
            problems.append(f"{place} is missing")
        elif isinstance(expected, Conversation) and rows[0] != expected.to_row():
            differing = _differing(rows[0], expected.to_row())
            problems.append(f"{place} is not what the journal says: {differing}")
        elif rows and not isinstance(expected, Conversation):
            what = "was rejected" if expected else "has no ending in the journal"
            problems.append(f"{place} is published, but {what}")

    def _compare_refused(
        self, key: str, expected: Conversation | Rejection | None, row: dict[str, Any] | None
    ) -> None:
        problems = self.rejected.problems
        if isinstance(expected, Rejection):
            if row is None:
                problems.append(f"{key} was rejected ({expected.reason}), its row is missing")
            elif row != asdict(expected):
                differing = _differing(row, asdict(expected))
                problems.append(f"{key} is not what the journal says: {differing}")
        elif row is not None:
            problems.append(f"{key} is rejected, but the journal says otherwise")

    def _strangers(self, shards: Iterable[Shard]) -> None:
        for check, paths, pattern in (
            (self.conversations, {s.data(self._run) for s in shards}, "conversations/*.parquet"),
            (self.journals, {s.journal(self._run) for s in shards}, "journal/*.sqlite"),
        ):
            found = sorted(set(self._run.glob(pattern)) - paths)
            check.problems += [f"{path.name} belongs to no shard" for path in found]


def broken_turns(record: Record) -> Iterator[str]:
    """What is wrong with the order of the turns that a journal holds of one conversation."""
    for place, turn in enumerate(record.accepted):
        if turn.position != place:
            yield f"has no turn {place}, but a turn {turn.position}"
            return
        if turn.role != ("user" if place % 2 == 0 else "assistant"):
            yield f"has a turn {place} by the {turn.role}"
        if not turn.text:
            yield f"has an empty turn {place}"


def broken_row(row: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a published row in itself: roles that do not alternate, half rounds."""
    try:
        conversation = Conversation.from_row(row)
    except (InputError, TypeError) as error:
        yield f"is no conversation: {error.args[0]}"
        return
    if len(conversation.turns) % 2:
        yield f"ends with a user turn that nobody answered ({len(conversation.turns)} turns)"


def _differing(found: dict[str, Any], expected: dict[str, Any]) -> str:
    keys = sorted(
        k for k in found.keys() | expected.keys() if _plain(found, k) != _plain(expected, k)
    )
    return ", ".join(keys)


def _plain(row: dict[str, Any], key: str) -> Any:
    return list(value) if isinstance(value := row.get(key), tuple) else value


def _rows(path: Path, check: Check) -> list[dict[str, Any]]:
    """A file's rows; a file that is not there or cannot be read is a problem."""
    if not path.is_file():
        check.problems.append(f"{path.name} is missing")
        return []
    try:
        return read_rows(path)
    except InputError as error:
        check.problems.append(str(error.args[0]))
        return []
