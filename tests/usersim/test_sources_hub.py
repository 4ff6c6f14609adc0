import json
import shutil
from pathlib import Path

import pytest

from usersim.errors import InputError, WorldError
from usersim.sources import ColumnMap, Source, SourceSettings

SAMPLES = Path(__file__).parents[1] / "data" / "sources"


def read(name, **settings):
    source = Source(SourceSettings(source=name, **settings))
    return list(source), source.files


@pytest.fixture
def hub(monkeypatch):
    """Lets a function answer for the Hub; returns the list of what was asked."""
    import datasets

    def answer_with(answer):
        asked = []

        def load_dataset(name, subset=None, **options):
            asked.append((name, subset, options))
            return answer(name)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return answer_with


def raising(error):
    def answer(_name):
        raise error

    return answer


def test_records_stream_in_with_name_license_and_split(hub):
    rows = [json.loads(line) for line in (SAMPLES / "wildchat.jsonl").read_text().splitlines()]
    asked = hub(lambda _name: iter(rows))
    drafts, files = read("hub:allenai/WildChat-1M@abc123", subset="en", split="test")
    assert asked == [
        (
            "allenai/WildChat-1M",
            "en",
            {"split": "test", "revision": "abc123", "streaming": True},
        )
    ]
    assert {(d.source, d.license) for d in drafts} == {("hub:allenai/WildChat-1M@abc123", "odc-by")}
    assert [f.to_dict() for f in files] == [
        {"name": "hub:allenai/WildChat-1M@abc123", "records": 2}
    ]


def test_the_real_stream_of_a_file(hub, tmp_path):
    """What `datasets` makes of nested columns is what the parsers expect."""
    import datasets

    load = datasets.load_dataset
    shutil.copy(SAMPLES / "columns.jsonl", tmp_path / "train.jsonl")
    hub(lambda _name: load(str(tmp_path), split="train", streaming=True))
    columns = ColumnMap(messages="dialog", role="speaker", content="said",
                        user=("visitor", "guest"), assistant="bot", id="uid")  # fmt: skip
    (draft,), _ = read("hub:someone/shop", columns=columns)
    assert (draft.id, draft.license, len(draft.messages)) == ("k1", "unstated", 3)


def test_no_more_is_streamed_than_wanted(hub):
    def endless(_name):
        for number in range(1_000_000):
            if number > 5:
                pytest.fail("read on")
            yield {"data": ["hi", "hello"]}

    hub(endless)
    drafts, files = read("hub:someone/talks", max_records=5)
    assert (len(drafts), files[0].records) == (5, 5)


def test_a_dataset_that_cannot_be_opened_is_explained(hub):
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HTTPError

    faults = [
        DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."),
        ConnectionError("Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)"),
        ValueError("Unknown split \"tests\". Should be one of ['train']."),
        HTTPError("Client error '401 Unauthorized'"),
        RuntimeError("Dataset scripts are no longer supported, but found b.py"),
    ]
    for fault in faults:
        hub(raising(fault))
        with pytest.raises(InputError) as found:
            read("hub:a/b", split="tests")
        told = str(found.value)
        assert str(fault) in told
        for remedy in ("ingest.source=FOLDER", "hf auth login", "ingest.split"):
            assert remedy in told


def test_the_subsets_to_choose_from_are_told(hub):
    told = "Config name is missing.\nPlease pick one among the available configs: ['survey']\nAs in"
    hub(raising(ValueError(told)))
    with pytest.raises(InputError, match=r"missing. Please pick one .*\['survey'\]\n"):
        read("hub:a/b")


def test_without_network_the_hub_is_an_input_error(monkeypatch):
    """The real client, told to stay offline."""
    from datasets import config
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="without network"):
        read("hub:nobody/nothing-of-this-name")


def test_a_stream_that_breaks_is_the_worlds_fault(hub):
    def broken(_name):
        yield {"data": ["hi", "hello"]}
        raise ConnectionResetError("peer closed the connection")

    hub(broken)
    with pytest.raises(WorldError, match=r"broke off after 1 records.*peer closed"):
        read("hub:a/b")


@pytest.mark.parametrize("name", ["hub:", "hub:alone", "hub:a/b/c", "hub:a/b@", "hub:../x/y"])
def test_what_names_no_dataset(name):
    with pytest.raises(InputError, match="names no dataset"):
        read(name)
