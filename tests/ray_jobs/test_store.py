"""Files in a store are whole or absent, and who finds a manifest there finds all that it lists."""

import json

import pytest
import typer

from pipelines.recipe import Recipe
from pipelines.run_folder import RunFolder
from ray_jobs import generate
from ray_jobs import store as stores
from ray_jobs.store import Store
from usersim.errors import InputError, WorldError

PART = "conversations/part-00000.parquet"


@pytest.fixture
def run(tmp_path):
    """A run with everything that a manifest lists, which is more than shards."""
    run = RunFolder(tmp_path / "run")
    for number, name in enumerate((PART, "conversations/part-00001.parquet")):
        (run.root / name).parent.mkdir(parents=True, exist_ok=True)
        (run.root / name).write_bytes(bytes([number]) * 5_000_000 * number)
    for name in ("conversations/cast/personas.jsonl", "corpus/data/train-00000.parquet"):
        (run.root / name).parent.mkdir(parents=True)
        (run.root / name).write_bytes(b"rows")
    return run


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    return Store(f"file://{tmp_path}/store" if request.param == "file" else f"memory://{tmp_path}")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(stores, "PAUSES_S", (0.0, 0.0))


def publish(run, store):
    run.write_manifest(Recipe.checked({"name": "test", "stages": ["ingest"]}, "test"))
    return store.publish(run.root, run.manifest_file)


def content(store, name):
    with store._fs.open_input_stream(f"{store._root}/{name}") as stream:
        return stream.read()


def holds_what_its_manifest_lists(store):
    files = json.loads(content(store, "manifest.json"))["files"]
    sizes = store.sizes()
    return files and all(sizes.get(e["path"]) == e["bytes"] for e in files)


def test_everything_that_the_manifest_lists_is_copied_once(run, store):
    assert store.sizes() == {}
    store.put(run.root / PART, PART)  # a worker did
    assert publish(run, store) == 3
    assert publish(run, store) == 0
    here = {str(p.relative_to(run.root)) for p in run.root.rglob("*") if p.is_file()}
    assert set(store.sizes()) == here
    assert holds_what_its_manifest_lists(store)


@pytest.mark.parametrize("now", [b"more rows", b"ROWS"])
def test_a_changed_file_is_copied_again(run, store, now):
    publish(run, store)
    (run.root / "conversations/cast/personas.jsonl").write_bytes(now)
    assert publish(run, store) == 1
    assert content(store, "conversations/cast/personas.jsonl") == now


def test_a_listed_file_that_is_gone_leaves_the_store_without_a_manifest(run, store):
    run.write_manifest(Recipe.checked({"name": "test", "stages": ["ingest"]}, "test"))
    (run.root / "corpus/data/train-00000.parquet").unlink()
    with pytest.raises(WorldError, match=r"cannot copy train-00000\.parquet"):
        store.publish(run.root, run.manifest_file)
    assert "manifest.json" not in store.sizes()


def test_half_a_manifest_in_the_store_is_replaced(run, store, tmp_path):
    (tmp_path / "half").write_text('{"files": [{"path": "con')
    store.put(tmp_path / "half", "manifest.json")
    publish(run, store)
    assert holds_what_its_manifest_lists(store)


class Failing:
    """A file system that refuses a call so many times, and notes under which names it wrote."""

    def __init__(self, fs, refuses, times):
        self._fs, self._refuses, self.left, self.written = fs, refuses, times, []

    def __getattr__(self, name):
        def call(*given, **named):
            if name == "open_output_stream":
                self.written.append(given[0])
            if name == self._refuses and self.left:
                self.left -= 1
                raise OSError(5, "out for a moment")
            return getattr(self._fs, name)(*given, **named)

        plain = getattr(self._fs, name)
        return call if callable(plain) else plain


@pytest.mark.parametrize("refuses", ["create_dir", "open_output_stream", "move"])
def test_a_store_that_is_out_for_a_moment_is_tried_again(run, store, refuses, monkeypatch):
    monkeypatch.setattr(store, "_fs", Failing(store._fs, refuses, times=2))
    store.put(run.root / PART, PART)
    assert store.sizes() == {PART: 0}


def test_a_store_that_stays_out_is_told_and_nothing_is_seen(run, store, monkeypatch):
    monkeypatch.setattr(store, "_fs", Failing(store._fs, "move", times=3))
    with pytest.raises(WorldError, match=r"cannot copy part-00000\.parquet.* out for a moment"):
        store.put(run.root / PART, PART)
    assert PART not in store.sizes()


def test_nothing_is_written_under_its_name_before_it_is_whole(run, store, monkeypatch):
    """Both file systems show a file while it is written."""
    fs = Failing(store._fs, "", 0)
    monkeypatch.setattr(store, "_fs", fs)
    store.put(run.root / PART, PART)
    assert [name.endswith(".tmp") for name in fs.written] == [True]


# Of the local ones only a full path is the same folder for every process: a job's own one goes.
RELATIVE = ["file://mnt/big", "file://", "local://big"]


@pytest.mark.parametrize(
    "uri", ["/just/a/path", "nonsense://x/y", "file:///", "s3://?region=x", *RELATIVE]
)
def test_what_is_no_store(uri):
    with pytest.raises(InputError):
        Store(uri)


def test_a_host_that_nobody_knows_is_told():
    with pytest.raises(WorldError, match="cannot open"):
        Store("ftp://host.invalid/run")


def test_a_store_that_refuses_is_told_before_anything_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "connected", lambda: pytest.fail("asked for a cluster"))
    (tmp_path / "file").touch()
    with pytest.raises(typer.Exit):
        generate.generate(run=tmp_path / "run", store=f"file://{tmp_path}/file/run")
    assert "cannot write to file://" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("uri", ["s3://AKIA:s3cret@bucket/run", "sftp://me:s3cret@host/run"])
def test_a_key_in_the_uri_is_refused_and_not_shown(uri):
    with pytest.raises(InputError, match="environment") as refused:
        Store(uri)
    assert "s3cret" not in str(refused.value)
