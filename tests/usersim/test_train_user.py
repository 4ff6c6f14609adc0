"""Training UserGPT: who it is calibrated on, and what is refused before time is spent."""

import pytest

from usersim.conditions import ConditionSettings
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import write_conversations
from usersim.rows import Row, ViewSettings
from usersim.sft import Checks
from usersim.train import (
    TrainSettings,
    _dev_people,
    pick,
    read_people,
    train_user,
)


def person(name):
    return Conversation(id=name, messages=(Message("user", f"hi {name}"),))


@pytest.mark.parametrize("dev", [None, []])
def test_a_source_too_small_for_a_dev_split_lends_its_training_people(tmp_path, dev, caplog):
    train = [person("a"), person("b")]
    if dev is not None:
        write_conversations(tmp_path / "dev.parquet", dev)
    assert _dev_people(tmp_path, train) == train
    assert "go by people who are learned from" in caplog.text
    write_conversations(tmp_path / "dev.parquet", [person("d")])
    assert _dev_people(tmp_path, train) == [person("d")]


def test_what_an_interrupted_training_of_another_model_left_is_not_gone_on_from(tmp_path):
    rows, settings = [Row("c", [1, 2])], TrainSettings()
    one, again, other = (
        Checks.beside(tmp_path / "user", rows, rows, settings, base).folder
        for base in ("base", "base", "base-instruct")
    )
    assert one == again
    assert one != other


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


def talk(name, number):
    texts = (f"how do I draw number {number}", f"Draw {number} like this.", "thx, and in red?")
    roles = ("user", "assistant", "user")
    messages = [Message(r, t) for r, t in zip(roles, texts, strict=True)]
    return Conversation(
        id=f"{name}{number}", messages=(*messages, Message("assistant", "Take red.")),
        stop_reason="user_ended",
    )  # fmt: skip


@pytest.mark.slow
def test_a_trained_usergpt_and_its_figures(tiny_checkpoint, tmp_path):
    for name, number in {"train": 12, "dev": 4, "test": 4}.items():
        write_conversations(
            tmp_path / f"{name}.parquet", [talk(name, number) for number in range(number)]
        )
    intents = tmp_path / "intents.jsonl"
    endless = f'{{"id": "test0", "intent": "{"draw " * 999}"}}'
    intents.write_text('{"id": "train1", "intent": "learn to draw"}\n' + endless)
    settings = TrainSettings(
        view=ViewSettings(window=768, target_limit=120, context_limit=120),
        train_tokens=4_000, lora_rank=4, checks=2, processes=1, intents=str(intents),
        conditions=ConditionSettings(profile_share=0.5, intent_share=0.5),
    )  # fmt: skip
    out = tmp_path / "user"
    figures = train_user(settings, str(tiny_checkpoint), tmp_path, out)
    assert figures["perplexity"]["after"] < figures["perplexity"]["before"]
    assert set(figures["perplexity"]["told"]) == {"profile", "intent", "both"}
    assert len(figures["training"]["checks"]) >= 2
    assert (out / "model.safetensors").is_file()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["user"]
