"""The journal: durable on return, once only, ours only."""

import asyncio
import errno
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.errors import InputError, WorldError
from usersim.journal import Attempt, Ending, Fenced, Journal, sole_owner

OWNER = {"recipe": "abc", "seed": 1}


def attempt(conversation=0, position=0, number=0, reason="", text="hello"):
    return Attempt(conversation, position, number, "user", reason, text, "stop", 3, 2, 1)


def write(journal, *entries):
    async def all_at_once():
        await asyncio.gather(*(journal.add(entry) for entry in entries))

    asyncio.run(all_at_once())


def test_entries_come_back_in_order_and_exactly(tmp_path):
    odd = attempt(2, 1, 0, text="quotes \" ' \x00 and 🦜 and\nlines")
    with Journal(tmp_path / "j", OWNER) as journal:
        write(journal, odd, attempt(2, 0, 1), attempt(2, 0, 0, reason="empty"), attempt(0))
        write(journal, Ending(2, "error", "timeout", "why"))
    with Journal(tmp_path / "j", OWNER) as journal:
        assert list(journal.attempts()) == [
            attempt(0), attempt(2, 0, 0, reason="empty"), attempt(2, 0, 1), odd,
        ]  # fmt: skip
        assert journal.endings() == {2: Ending(2, "error", "timeout", "why")}
        assert list(journal.openers()) == [attempt(0), attempt(2, 0, 1)]


def test_what_add_returned_from_is_seen_by_another_connection(tmp_path):
    journal = Journal(tmp_path / "j", OWNER)
    write(journal, attempt())
    with sqlite3.connect(tmp_path / "j") as other:
        assert other.execute("SELECT count(*) FROM attempt").fetchone() == (1,)
    journal.close()


def test_what_is_finished_together_is_committed_together(tmp_path):
    journal = Journal(tmp_path / "j", OWNER)
    commits = []
    journal._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    write(journal, *(attempt(n) for n in range(200)))
    assert len(commits) == 1
    journal.close()


@pytest.mark.parametrize("shared", [False, True])
def test_a_commit_is_with_the_disk_after_a_bounded_time(tmp_path, monkeypatch, shared):
    """The file alone, without SQLite's log of what is not synced, is what a power cut leaves."""
    monkeypatch.setattr("usersim.journal.SYNC_S", 0.01)

    def left_by_a_power_cut():
        shutil.copy(tmp_path / "j", tmp_path / "left")
        with closing(sqlite3.connect(tmp_path / "left")) as db:
            return db.execute("SELECT count(*) FROM attempt").fetchone()[0]

    async def write_and_look():
        for number in range(3):
            await journal.add(attempt(number))
            if shared:
                assert left_by_a_power_cut() == number + 1
            async with asyncio.timeout(30):
                while left_by_a_power_cut() <= number:
                    await asyncio.sleep(0)

    with Journal(tmp_path / "j", OWNER, shared=shared) as journal:
        journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # the tables
        asyncio.run(write_and_look())


def test_a_sync_before_a_commit_leaves_another_one_due(tmp_path):
    async def write():
        adding = asyncio.create_task(journal.add(attempt(0)))
        await asyncio.sleep(0)
        journal._sync()
        due = journal._sync_due
        journal.flush()
        await adding
        journal._sync()
        return due, journal._sync_due

    with Journal(tmp_path / "j", OWNER, linger_s=60) as journal:
        before, after = asyncio.run(write())
    assert before is not None
    assert after is None


@pytest.mark.parametrize(
    "again", [attempt(), attempt(number=1, text="another answer"), Ending(0, "max_rounds")]
)
def test_nothing_is_finished_twice(tmp_path, again):
    with Journal(tmp_path / "j", OWNER) as journal:
        write(journal, attempt(), Ending(0, "user_ended"))
        with pytest.raises(sqlite3.IntegrityError):
            write(journal, again)
        assert list(journal.attempts()) == [attempt()]
        assert journal.endings()[0].stop_reason == "user_ended"


def test_close_commits_what_waits(tmp_path):
    async def cancelled_while_waiting():
        journal = Journal(tmp_path / "j", OWNER, linger_s=3600)
        task = asyncio.create_task(journal.add(attempt()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        journal.close()

    asyncio.run(cancelled_while_waiting())
    with Journal(tmp_path / "j", OWNER) as journal:
        assert list(journal.attempts()) == [attempt()]


def test_another_run_is_refused(tmp_path):
    Journal(tmp_path / "j", OWNER).close()
    with pytest.raises(InputError, match="seed: 1 there, 2 now"):
        Journal(tmp_path / "j", OWNER | {"seed": 2})


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "j").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match=r"j is damaged \(file is not a database\): restore it"):
        Journal(tmp_path / "j", OWNER)


def test_a_damaged_page_is_told_with_what_to_do(tmp_path):
    with Journal(tmp_path / "j", OWNER) as journal:
        write(journal, *(attempt(n, text="long " * 1000) for n in range(9)), Ending(1, "error"))
    content = (tmp_path / "j").read_bytes()
    with sqlite3.connect(tmp_path / "j") as other:
        found = "SELECT rootpage FROM sqlite_master WHERE name IN ('attempt', 'ending')"
        pages = [page for (page,) in other.execute(found)]
    for page in pages:
        start = (page - 1) * 4096
        content = content[:start] + bytes(4096) + content[start + 4096 :]
    (tmp_path / "j").write_bytes(content)
    with Journal(tmp_path / "j", OWNER) as journal:
        for read in (journal.endings, lambda: list(journal.attempts())):
            with pytest.raises(InputError, match=r"j is damaged .*held again"):
                read()


@pytest.mark.parametrize("cached_pages", [2000, 5])
def test_a_full_disk_is_said_and_keeps_what_was_written(tmp_path, cached_pages):
    """With few pages in memory, SQLite has rolled back before we can."""
    with Journal(tmp_path / "j", OWNER) as journal:
        journal._db.execute(f"PRAGMA cache_size = {cached_pages}")
        write(journal, attempt())
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages + 30}")
        with pytest.raises(WorldError, match="disk is full"):
            write(journal, *(attempt(n, text="long " * 1000) for n in range(1, 50)))
    with Journal(tmp_path / "j", OWNER) as journal:
        assert list(journal.attempts()) == [attempt()]


ANY_TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too
ANY_COUNT = st.integers(-(2**70), 2**70)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ANY_TEXT, ANY_COUNT), min_size=1, max_size=4))
def test_whoever_adds_is_told_what_became_of_it(entries):
    """Durable or raised, of one batch alike: nothing that an engine says makes a run wait."""

    async def all_at_once(journal):
        adding = [
            asyncio.ensure_future(journal.add(replace(attempt(n, text=text), prompt_tokens=count)))
            for n, (text, count) in enumerate(entries)
        ]
        _, waiting = await asyncio.wait(adding, timeout=20)
        assert not waiting
        return {type(task.exception()) for task in adding}

    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "j", OWNER) as journal:
        told = asyncio.run(all_at_once(journal))
        written = [(a.text, a.prompt_tokens) for a in journal.attempts()]
    assert told in ({type(None)}, {UnicodeEncodeError}, {OverflowError})
    assert written == (entries if told == {type(None)} else [])


def test_a_bug_ends_a_run_that_would_wait_for_ever(tmp_path):
    with Journal(tmp_path / "j", OWNER) as journal:
        with pytest.raises(UnicodeEncodeError):
            write(journal, attempt(text="half \ud83d"))
        write(journal, attempt(text="whole"))
        assert [a.text for a in journal.attempts()] == ["whole"]


def test_a_folder_has_one_owner_at_a_time(tmp_path):
    refused = pytest.raises(WorldError, match="another process")
    with sole_owner(tmp_path), refused, sole_owner(tmp_path):
        pass
    with sole_owner(tmp_path):
        pass


def test_a_disk_that_knows_no_locks_is_no_other_process(tmp_path, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(WorldError, match="cannot be locked: No locks"), sole_owner(tmp_path):
        pass


def test_the_lock_goes_with_its_process(tmp_path):
    child = os.fork()
    if child == 0:
        with sole_owner(tmp_path):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with sole_owner(tmp_path):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_a_worker_that_was_given_up_writes_nothing_any_more(tmp_path, shared):
    given_up = Journal(tmp_path / "j", OWNER, shared=shared)
    given_up.claim(1)
    write(given_up, attempt(0))
    heir = Journal(tmp_path / "j", OWNER, shared=shared)
    heir.claim(2)
    with pytest.raises(Fenced, match="lease 2"):
        write(given_up, attempt(0, 1), Ending(0, "max_rounds"))
    with pytest.raises(Fenced):
        given_up.claim(2)
    write(heir, attempt(0, 1, text="the heir's"))
    assert [a.text for a in heir.attempts()] == ["hello", "the heir's"]
    assert heir.endings() == {}
    given_up.close()
    heir.close()


def test_who_only_reads_claims_nothing(tmp_path):
    working = Journal(tmp_path / "j", OWNER, shared=True)
    working.claim(5)
    with Journal(tmp_path / "j", OWNER, shared=True) as reader:
        assert reader.lease == 5
    write(working, attempt(0))
    working.close()
