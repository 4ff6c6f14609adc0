"""Training UserGPT: who it is calibrated on, and what is refused before time is spent."""

import pytest

from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import write_conversations
from usersim.train import _dev_people, pick, read_people


def person(name):
    return Conversation(id=name, messages=(Message("user", f"hi {name}"),))


@pytest.mark.parametrize("dev", [None, []])
def test_a_source_too_small_for_a_dev_split_lends_its_training_people(tmp_path, dev):
    train = [person("a"), person("b")]
    if dev is not None:
        write_conversations(tmp_path / "dev.parquet", dev)
    assert _dev_people(tmp_path, train) == train
    write_conversations(tmp_path / "dev.parquet", [person("d")])
    assert _dev_people(tmp_path, train) == [person("d")]


def test_a_missing_or_empty_split_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="realchat ingest"):
        read_people(tmp_path / "train.parquet")
    write_conversations(tmp_path / "train.parquet", [])
    with pytest.raises(InputError, match="no conversation"):
        read_people(tmp_path / "train.parquet")


def test_the_same_people_are_picked_whatever_their_order():
    people = [person(str(i)) for i in range(30)]
    assert pick(people, 5, seed=1) == pick(people[::-1], 5, seed=1)
    assert pick(people, 5, seed=1) != pick(people, 5, seed=2)
