"""Those who are told from people most surely go; scores come from models that never saw them."""

import random

import pytest
from made_run import talks

from pipelines.curate import curate
from pipelines.curate_settings import CurateSettings
from pipelines.realism import MOST, most_tellable, tellable
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import read_rows, write_conversations

PEOPLE = talks("people", 120, 2)


def robot(number):
    text = f"Kindly elaborate comprehensively upon the aforementioned subject {number}."
    return Conversation(
        id=f"robot-{number}",
        messages=(Message("user", text), Message("assistant", f"It is {number}.")),
    )


SIMULATED = [*talks("simulated", 90, 2), *map(robot, range(15))]


def test_the_most_tellable_are_those_that_nobody_would_write():
    gone = most_tellable(SIMULATED, PEOPLE, 0.14)
    assert len(gone) == 14
    assert sum(name.startswith("robot") for name in gone) >= 13
    shuffled = random.Random(3).sample(SIMULATED, len(SIMULATED))
    assert most_tellable(shuffled, PEOPLE, 0.14) == gone


def test_too_few_are_let_pass_and_too_many_are_refused():
    assert tellable(SIMULATED[:10], PEOPLE) is None
    assert most_tellable(SIMULATED[:10], PEOPLE, 0.5) == {}
    with pytest.raises(InputError, match="set it to 0"):
        most_tellable([SIMULATED[0]] * (MOST + 1), PEOPLE, 0.5)


def test_curation_drops_them_with_a_reason(tmp_path):
    write_conversations(tmp_path / "people" / "train.parquet", PEOPLE)
    write_conversations(tmp_path / "conversations" / "part-00000.parquet", SIMULATED)
    chosen = CurateSettings(
        balance={"drop_most_tellable": 0.1},
        dedup={"opener_threshold": 1, "conversation_threshold": 1},
    )
    figures = curate(
        chosen, tmp_path / "conversations", tmp_path / "curated", tmp_path / "r.parquet",
        tmp_path / "people",
    )  # fmt: skip
    assert figures["reasons"]["tellable"] >= 5
    assert figures["funnel"][-1]["reasons"] == {"tellable": figures["reasons"]["tellable"]}
    details = [r["detail"] for r in read_rows(tmp_path / "r.parquet") if r["reason"] == "tellable"]
    assert all(detail.startswith("log odds of being simulated") for detail in details)
