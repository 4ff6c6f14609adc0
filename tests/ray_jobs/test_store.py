"""Files in a store are whole or absent; going on copies only what is missing."""

import pytest

from ray_jobs.store import Store
from usersim.errors import InputError, WorldError


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run" / "conversations"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"part-{number:05d}.parquet").write_bytes(bytes([number]) * (5_000_000 * number))
    (folder / ".part-00009.parquet.tmp").write_bytes(b"half")
    return tmp_path / "run"


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    return Store(f"file://{tmp_path}/store" if request.param == "file" else f"memory://{tmp_path}")


def test_what_is_missing_is_copied_once(run, store):
    assert store.sizes("conversations") == {}
    assert store.complete(run, "conversations") == 3
    assert store.complete(run, "conversations") == 0
    sizes = [store.sizes("conversations")[f"conversations/part-0000{n}.parquet"] for n in range(3)]
    assert sizes == [0, 5_000_000, 10_000_000]
    assert len(store.sizes("conversations")) == 3


def test_a_changed_shard_is_copied_again(run, store):
    store.complete(run, "conversations")
    (run / "conversations" / "part-00000.parquet").write_bytes(b"more")
    assert store.complete(run, "conversations") == 1
    assert store.sizes("conversations")["conversations/part-00000.parquet"] == 4


def test_a_copy_that_breaks_off_is_not_seen(run, tmp_path, monkeypatch):
    store = Store(f"file://{tmp_path}/store")

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_fs", Broken(store._fs, broken))
    with pytest.raises(WorldError, match=r"cannot copy part-00001\.parquet"):
        store.put(run / "conversations" / "part-00001.parquet", "conversations/part-00001.parquet")
    assert "conversations/part-00001.parquet" not in Store(store.uri).sizes("conversations")


class Broken:
    """A file system whose renaming fails."""

    def __init__(self, fs, move):
        self._fs, self.move = fs, move

    def __getattr__(self, name):
        return getattr(self._fs, name)


@pytest.mark.parametrize("uri", ["/just/a/path", "nonsense://x/y"])
def test_what_is_no_store(uri):
    with pytest.raises(InputError):
        Store(uri)
