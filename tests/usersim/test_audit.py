"""Reading a journal as it is, whatever state a writer left it in."""

import asyncio
from contextlib import closing

import pytest

from usersim.audit import ReadJournal
from usersim.journal import Attempt, Ending, Journal

OWNER = {"recipe": "r", "seed": 7}
OPENER = Attempt(3, 0, 0, "user", "", "hello there", "stop", 0, 2, 0)


async def written(journal):
    await asyncio.gather(journal.add(OPENER), journal.add(Ending(3, "error", "why", "that")))


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_committed_is_seen_while_the_writer_is_still_there(tmp_path, shared):
    path = tmp_path / "part.sqlite"
    with Journal(path, OWNER, shared=shared) as journal:
        asyncio.run(written(journal))
        before = path.read_bytes()
        with closing(ReadJournal(path)) as reader:
            assert list(reader.attempts()) == [OPENER]
            assert reader.endings()[3].reason == "why"
            assert reader.owner() == {"recipe": "r", "seed": "7", "version": "1"}
            assert reader.damage() == ""
        assert path.read_bytes() == before


def test_a_journal_on_a_read_only_disk_is_read(tmp_path):
    path = tmp_path / "part.sqlite"
    with Journal(path, OWNER) as journal:
        asyncio.run(written(journal))
    tmp_path.chmod(0o500)
    try:
        with closing(ReadJournal(path)) as reader:
            assert list(reader.attempts()) == [OPENER]
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
    finally:
        tmp_path.chmod(0o700)


def test_a_damaged_journal_is_told(tmp_path):
    path = tmp_path / "part.sqlite"
    with Journal(path, OWNER) as journal:
        asyncio.run(written(journal))
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)
    with closing(ReadJournal(path)) as reader:
        assert reader.damage()
