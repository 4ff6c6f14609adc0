"""Held out means held out by person, where the source says who the user is."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.conversation import Conversation, Message
from usersim.fidelity.reference import read_reference
from usersim.files import read_conversations
from usersim.people import SPLITS, IngestSettings, Persons, ingest

WORDS = [
    "apple",
    "river",
    "candle",
    "stone",
    "music",
    "garden",
    "window",
    "paper",
    "copper",
    "winter",
    "salt",
    "engine",
]


def opener(rng):
    return "please tell me " + " ".join(
        rng.choice(WORDS) + str(rng.randrange(99)) for _ in range(12)
    )


def talks(path, persons):
    """A WildChat-like file: one conversation of each of these persons, None for unknown ones."""
    rng = random.Random(5)
    rows = []
    for n, person in enumerate(persons):
        turn = {"role": "user", "content": opener(rng), "toxic": False, "hashed_ip": person}
        answer = {"role": "assistant", "content": f"Answer number {n}.", "toxic": False}
        rows.append({"conversation_hash": f"c{n}", "conversation": [turn, answer]})
    path.write_text("\n".join(map(json.dumps, rows)))
    return IngestSettings(source=str(path), language=None, dev=8, test=8)


def splits(out):
    return {name: {c.id for c in read_conversations(out / f"{name}.parquet")} for name in SPLITS}


def test_one_persons_conversations_never_cross_the_split(tmp_path):
    persons = [f"p{n % 23}" for n in range(60)] + [None] * 20
    figures = ingest(talks(tmp_path / "a.jsonl", persons), tmp_path / "out")
    found = splits(tmp_path / "out")
    assert figures["splits"] == {"train": 64, "dev": 8, "test": 8}
    assert figures["persons"] == 23
    where = {}
    for name, ids in found.items():
        for conversation in ids:
            person = persons[int(conversation[1:])]
            if person:
                where.setdefault(person, set()).add(name)
    assert {len(names) for names in where.values()} == {1}
    assert {"dev", "test"} <= {name for names in where.values() for name in names}


def test_who_talks_more_than_a_split_holds_stays_in_train(tmp_path):
    persons = ["talker"] * 30 + [f"p{n}" for n in range(30)]
    ingest(talks(tmp_path / "a.jsonl", persons), tmp_path / "out")
    found = splits(tmp_path / "out")
    assert {f"c{n}" for n in range(30)} <= found["train"]
    assert (len(found["dev"]), len(found["test"])) == (6, 8)


def test_people_who_are_all_linked_are_not_held_out_and_the_figures_show_it(tmp_path):
    """Everybody shares an address with the next: there is no test that training has not seen."""
    settings = talks(tmp_path / "a.jsonl", ["same"] * 40)
    figures = ingest(settings, tmp_path / "out")
    assert figures["splits"] == {"train": 40, "dev": 0, "test": 0}
    assert figures["wanted"] == {"test": 8, "dev": 4}


def test_nothing_written_names_a_person(tmp_path):
    ingest(talks(tmp_path / "a.jsonl", [f"person-{n}" for n in range(20)]), tmp_path / "out")
    for name in SPLITS:
        for conversation in read_conversations(tmp_path / "out" / f"{name}.parquet"):
            assert "person-" not in json.dumps(conversation.to_row())


named = st.lists(st.lists(st.integers(0, 6), max_size=3), max_size=12)


@settings(max_examples=60)
@given(named)
def test_conversations_that_share_a_person_are_in_one_unit(people):
    turns = (Message("user", "hi"), Message("assistant", "hello"))
    found = [Conversation(id=str(n), messages=turns) for n in range(len(people))]
    persons = Persons({str(n): tuple(map(str, names)) for n, names in enumerate(people)})
    units = persons.units(found)
    assert sorted(n for unit in units for n in unit) == list(range(len(people)))
    owners = [{person for n in unit for person in people[n]} for unit in units]
    for left, right in ((a, b) for a in range(len(owners)) for b in range(a)):
        assert not owners[left] & owners[right]


@pytest.mark.parametrize("names", [("a", "a"), ()])
def test_persons_are_counted_once(names):
    assert Persons({"x": names, "y": names}).count(["x", "y"]) == len(set(names))


def test_fidelity_knows_which_held_out_conversations_are_one_persons(tmp_path):
    """Intervals draw persons, and nobody stands on both sides of a fold."""
    settings = talks(tmp_path / "a.jsonl", [f"hash-{n // 2}" for n in range(60)])
    ingest(settings, tmp_path / "out")
    found = read_reference(str(tmp_path / "out" / "test.parquet"))
    assert [len(person.conversations) for person in found.persons] == [2, 2, 2, 2]
    assert "hash-" not in (tmp_path / "out" / "persons.json").read_text(), "nobody is named"
    ingest(talks(tmp_path / "b.jsonl", [None] * 60), tmp_path / "out")
    assert len(read_reference(str(tmp_path / "out" / "test.parquet")).persons) == 8
