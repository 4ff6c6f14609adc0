"""The books of a simulation: journals, data files and the time spent, shard by shard."""

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from usersim.conversation import Conversation, Rejection
from usersim.errors import EngineUseless, InputError, WorldError
from usersim.faults import fault_point
from usersim.files import (
    read_footer,
    read_json,
    sweep,
    write_conversations,
    write_json,
    write_rejections,
)
from usersim.journal import Ending, Journal
from usersim.openers import Openers
from usersim.outcome import (
    FIGURES,
    OWNER,
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
from usersim.shingling import Shingling
from usersim.talk import ENGINE_DIED, Pace, Talk


class Books:
    """What the run folder holds: one journal and one data file a shard, and the time spent.

    `shared`: workers on several machines take up shards of the folder, each with its own books.
    """

    def __init__(self, agenda: Agenda, lineage: Lineage, run: Path, shared: bool = False) -> None:
        self.agenda, self.lineage, self.run, self._shared = agenda, lineage, run, shared
        settings = agenda.settings
        self.openers = Openers(settings.opener_threshold, Shingling(settings.opener_words))
        self.ended = 0
        """Conversations that have ended, in all sessions."""
        self.blamed = 0
        """Those that ended in this one because their engine died of them."""
        self.left: dict[int, int] = {}
        """Conversations that have not, by the number of their shard, where it was looked at."""
        self.leases: dict[int, int] = {}
        """The last claim on each journal, where it was looked at."""
        self._spent_path = run / "journal" / "spent.json"
        self.spent = Spent(**read_json(self._spent_path)) if self._spent_path.exists() else Spent()
        self._open: dict[int, Journal] = {}

    def journal(self, shard: Shard) -> Journal:
        """The shard's journal, opened once."""
        if shard.number not in self._open:
            path, owner = shard.journal(self.run), self.agenda.owner(shard)
            self._open[shard.number] = Journal(path, owner, shared=self._shared)
        return self._open[shard.number]

    def publish_finished(self) -> list[Shard]:
        """See what earlier sessions left: publish whole shards, return the others."""
        missing = []
        for shard in self.agenda.shards():
            if self._survey(shard) == shard.size:
                if not shard.data(self.run).exists():
                    self._publish(shard)
            elif shard.data(self.run).exists():
                raise InputError(
                    f"{shard.data(self.run)} is there, but its journal is not whole: restore"
                    f" {shard.journal(self.run)}, or remove both to make this shard again"
                )
            else:
                missing.append(shard)
            self.close_journal(shard)
        return missing

    def _survey(self, shard: Shard) -> int:
        """How many of the shard's conversations have ended; all sessions' openers are kept."""
        self.left[shard.number], self.leases[shard.number] = shard.size, 0
        if not shard.journal(self.run).exists():
            return 0
        if self._shared and shard.data(self.run).exists():  # whole, as whoever named it saw
            self._check_owner(shard)
            self.ended += shard.size
            self.left[shard.number] = 0
            return shard.size
        journal = self.journal(shard)
        if not self._shared:  # else each worker knows those of its own shards
            self._remember_openers(journal)
        ended = len(journal.endings())
        self.ended += ended
        self.left[shard.number] -= ended
        self.leases[shard.number] = journal.lease
        return ended

    def _check_owner(self, shard: Shard) -> None:
        """Raise InputError where the shard's data file was made by another recipe."""
        told = read_footer(shard.data(self.run), OWNER)
        if told is None:  # by an earlier version: its journal knows
            self.journal(shard)
        elif json.loads(told) != self.agenda.owner(shard):
            raise InputError(
                f"{shard.data(self.run)} belongs to another run ({told} there): use another run"
                " folder, or the recipe that began this one"
            )

    def _remember_openers(self, journal: Journal) -> None:
        for attempt in journal.openers():
            self.openers.add(self.agenda.plan(attempt.conversation).id, attempt.text)

    def talks(self) -> Iterator[tuple[Shard, Talk]]:
        """Conversations still to hold, each from where it stands; a journal opens when reached."""
        for shard in self.agenda.shards():
            if shard.data(self.run).exists():
                continue
            for talk in self._take_up(shard):
                yield shard, talk

    def take_up(self, shard: Shard, lease: int) -> list[Talk]:
        """A shard's conversations to hold, under a lease that ends every earlier one.

        A shard that lacks nothing is published. Raises Fenced when a later lease is there already.
        """
        talks = self._take_up(shard, lease)
        self._remember_openers(self.journal(shard))
        if not talks:
            self._publish(shard)
            self.close_journal(shard)
        return talks

    def _take_up(self, shard: Shard, lease: int | None = None) -> list[Talk]:
        journal = self.journal(shard)
        journal.claim(lease)
        begun = {record.index: record for record in records(journal)}
        indices = range(shard.first, shard.first + shard.size)
        retries = journal.retries()
        todo = [
            self._talk(index, journal, begun.get(index), retries.get(index, 0))
            for index in indices
            if not _is_over(begun.get(index))
        ]
        self.left[shard.number] = len(todo)
        return todo

    def _talk(self, index: int, journal: Journal, record: Record | None, retries: int) -> Talk:
        talk = Talk(self.agenda.plan(index), journal, retries=retries)
        for attempt in record.attempts if record else ():
            talk.take(attempt)
        return talk

    async def end(self, shard: Shard, talk: Talk, ending: Ending) -> None:
        """Write an ending down; the shard's last one publishes the shard."""
        self.blamed += ending.reason == ENGINE_DIED
        await talk.journal.add(ending)
        self.ended += 1
        self.left[shard.number] -= 1
        if self.left[shard.number] == 0:
            self._publish(shard)
            self.close_journal(shard)

    def _outcomes(
        self, shard: Shard, only: Sequence[int] | None = None
    ) -> Iterator[tuple[Record, Conversation | Rejection]]:
        for record in records(self.journal(shard), only):
            yield record, outcome(record, self.agenda.plan(record.index), self.lineage)

    def _publish(self, shard: Shard) -> None:
        """Write the shard's rows, its figures with them: who counts the run needs no journal."""
        fault_point("shard.publish")
        figures = ShardFigures()

        def footer() -> dict[str, str]:
            ended = figures.tally.ended
            assert ended == shard.size, f"shard {shard.number}: {ended} of {shard.size}"
            return {FIGURES: figures.to_json(), OWNER: json.dumps(self.agenda.owner(shard))}

        results = figures.counted(self._outcomes(shard), self.journal(shard).put_aside())
        rows = (result for result in results if isinstance(result, Conversation))
        write_conversations(shard.data(self.run), rows, footer)
        fault_point("shard.published")

    def close_run(self) -> dict[str, Any]:
        """When every shard is published: write the rejected rows, return the run's figures.

        Raises WorldError when too many of the conversations ended in an engine's error.
        """
        tally = Tally()
        write_rejections(self.run / "rejected" / f"{STAGE}.parquet", self._rejected(tally))
        for folder in ("conversations", "journal", "rejected"):
            sweep(self.run / folder)
        self._check_errors(tally)
        return tally.figures(self.spent)

    def _rejected(self, tally: Tally) -> Iterator[Rejection]:
        """The run's rejected rows, a shard in memory at a time; all shards are added to `tally`."""
        for shard in self.agenda.shards():
            figures = self._figures(shard)
            tally.counts.update(figures.tally.counts)
            if figures.rejected:
                for record, result in self._outcomes(shard, figures.rejected):
                    assert isinstance(result, Rejection), f"{result.id} has a row"
                    tally.counts["rejected_errors"] += record.failed
                    yield result
            self.close_journal(shard)
        assert tally.ended == self.agenda.settings.conversations, "a conversation was lost"

    def _figures(self, shard: Shard) -> ShardFigures:
        """What stands beside the shard's rows; counted where an earlier version wrote the file."""
        if (told := read_footer(shard.data(self.run), FIGURES)) is not None:
            return ShardFigures.from_json(told)
        figures = ShardFigures()
        aside = self.journal(shard).put_aside()
        deque(figures.counted(self._outcomes(shard), aside), maxlen=0)
        return figures

    def save_spent(self, before: Spent, pace: Pace, since: float) -> None:
        """Write down what this session has taken so far, on top of those before."""
        seconds = time.monotonic() - since
        worked = seconds if pace.worker_seconds is None else pace.worker_seconds
        self.spent = Spent(
            seconds=before.seconds + seconds,
            worker_seconds=before.worker_seconds + worked,
            sessions=before.sessions + 1,
            transient_retries=before.transient_retries + pace.transient_retries,
            peak_requests=max(before.peak_requests, pace.peak_in_flight),
            slot_occupancy=pace.slots or before.slot_occupancy,
        )
        write_json(self._spent_path, self.spent.to_dict())

    def unfinished(self, why: str, ended: int | None = None) -> str:
        """What to tell of a run that stopped before its end; `ended` where others count it."""
        total, done = self.agenda.settings.conversations, self.ended if ended is None else ended
        return (
            f"{why}; {done} of {total} conversations are finished and every finished turn is kept"
            f" in {self.run}. The same command resumes there"
        )

    def useless(self, error: EngineUseless, ended: int | None = None) -> str:
        """What to tell of a run that an engine stopped, and how to get back what it spoiled."""
        told = self.unfinished(str(error), ended)
        return f"{told}, and {self._retry} holds those that failed again" if error.failed else told

    @property
    def _retry(self) -> str:
        return f"`realchat retry {self.run} --reason error`"

    def _check_errors(self, tally: Tally) -> None:
        """Raise WorldError when more of the whole run's conversations failed than it allows."""
        limit, ended = self.agenda.settings.max_error_rate, tally.ended
        errors = tally.counts["rejected_errors"] + tally.counts["stop_reasons/error"]
        if errors > limit * ended:
            raise WorldError(
                f"{errors} of {ended} conversations ended in an engine's error, more than"
                f" simulate.max_error_rate={limit:g} allows; {self.run / 'rejected'} says why."
                f" {self._retry} holds them again; a higher rate takes the run as it is"
            )

    def flush(self) -> None:
        """Commit what is pending in every journal."""
        for journal in self._open.values():
            journal.flush()

    def close_journal(self, shard: Shard) -> None:
        """Flush and close a shard's journal, if it is open."""
        if journal := self._open.pop(shard.number, None):
            journal.close()

    def close(self) -> None:
        """Flush and close every journal."""
        for journal in self._open.values():
            journal.close()
        self._open.clear()
        self.openers.close()


def _is_over(record: Record | None) -> bool:
    return record is not None and record.ending is not None
