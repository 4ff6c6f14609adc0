import shutil

import numpy as np
import pytest

from pipelines.dedup import Candidate, DedupSettings, deduplicate
from pipelines.dedup_index import conversation_files
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import write_conversations

STORY = "write me a long story about a lighthouse keeper who finds a map in a bottle at sea"
OTHERS = ["what grows well on a shady balcony in spring", "how do i ask my boss for a raise"]


def conversation(row_id, *user_turns):
    turns = [m for t in user_turns for m in (Message("user", t), Message("assistant", "Sure."))]
    return Conversation(id=row_id, messages=tuple(turns))


def against(path, *batch):
    settings = DedupSettings(against=(path,))
    gone = deduplicate([Candidate(c) for c in batch], settings)
    return {batch[i].id: (d.reason, d.kept_id) for i, d in gone.items()}


@pytest.fixture
def release(tmp_path):
    """A run that kept two conversations in two shards."""
    for number, text in enumerate((STORY, OTHERS[0])):
        path = tmp_path / "run" / "curated" / f"part-{number:05d}.parquet"
        write_conversations(path, [conversation(f"old-{number}", text)])
    return tmp_path / "run"


def test_a_new_batch_leaves_out_what_an_earlier_release_holds(release):
    batch = [
        conversation("near", STORY + " please"),
        conversation("same", OTHERS[0].upper()),
        conversation("old-1", OTHERS[1]),
        conversation("new", "why is the sky so blue at noon", "and the sea"),
    ]
    assert against(release, *batch) == {
        "near": ("near_duplicate_opener", "old-0"),
        "same": ("exact_duplicate", "old-1"),
        "old-1": ("duplicate_id", "old-1"),
    }


def test_one_batch_after_another_keeps_what_both_at_once_would(tmp_path):
    first = [conversation("a", STORY + " and sails north"), conversation("b", OTHERS[0])]
    second = [conversation("c", STORY), conversation("d", OTHERS[1])]
    together = deduplicate([Candidate(c) for c in first + second], DedupSettings())
    write_conversations(tmp_path / "first.parquet", first)
    assert set(against(tmp_path / "first.parquet", *second)) == {"c"}
    assert {(first + second)[i].id for i in together} == {"c"}


def test_the_index_is_made_once_and_made_anew_for_other_rows(release):
    against(release, conversation("x", STORY))
    index = sorted((release / "curated" / "index").iterdir())
    times = [path.stat().st_mtime_ns for path in index]
    assert against(release, conversation("x", STORY)) == {"x": ("exact_duplicate", "old-0")}
    assert [path.stat().st_mtime_ns for path in index] == times
    write_conversations(release / "curated" / "part-00000.parquet", [conversation("o", OTHERS[1])])
    assert against(release, conversation("x", STORY)) == {}


def test_the_index_holds_no_text_and_nothing_to_unpickle(release):
    against(release, conversation("x", STORY))
    index = list((release / "curated" / "index").iterdir())
    assert {path.suffix for path in index} == {".json", ".npy", ".parquet"}
    assert not any(b"lighthouse" in path.read_bytes() for path in index)
    for path in (path for path in index if path.suffix == ".npy"):
        assert np.load(path, allow_pickle=False).dtype == np.uint32


def test_a_folder_that_may_only_be_read_is_compared_all_the_same(release, monkeypatch):
    from pipelines.traces import Traces
    from usersim.errors import WorldError

    def refuse(self, stem):
        raise WorldError("read-only")

    monkeypatch.setattr(Traces, "write", refuse)
    assert against(release, conversation("x", STORY)) == {"x": ("exact_duplicate", "old-0")}


def test_a_corpus_is_not_written_into(release, tmp_path):
    shutil.move(release / "curated", tmp_path / "corpus" / "data")
    assert against(tmp_path / "corpus", conversation("x", STORY)) != {}
    assert {path.suffix for path in (tmp_path / "corpus").rglob("*") if path.is_file()} == {
        ".parquet"
    }
    assert len(conversation_files(tmp_path / "corpus")) == 2


def test_a_path_without_conversations_is_told(tmp_path):
    with pytest.raises(InputError, match="no conversations"):
        against(tmp_path, conversation("x", STORY))
