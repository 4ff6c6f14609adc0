import asyncio
import os

import pytest

from usersim.conversation import Message
from usersim.engine import Sampling
from usersim.engines import EngineSpec
from usersim.engines.scripted import ScriptedEngine
from usersim.errors import InputError
from usersim.fidelity.baseline import Instructed, Speakers, simulated
from usersim.plan import SimulateSettings

SETTINGS = SimulateSettings(conversations=5, shard_size=5, concurrency=2)


def heard_by(told, *messages):
    heard = []
    engine = ScriptedEngine(lambda said, sampling: heard.append(list(said)) or "hello")
    asyncio.run(Instructed(engine, told).complete(messages, Sampling()))
    return heard[0]


def test_the_instruction_comes_first_and_only_where_there_is_none():
    hello = Message("user", "hello")
    assert heard_by("act as a user", hello) == [Message("system", "act as a user"), hello]
    assert heard_by("", hello) == [hello]
    own = Message("system", "an own one")
    assert heard_by("act as a user", own, hello) == [own, hello]


def speakers(model="talkative", told=""):
    user, assistant = (
        EngineSpec(kind="scripted", model=name, opens=role)
        for name, role in ((model, "user"), ("talkative", "assistant"))
    )
    return Speakers(user, assistant, told)


def test_what_was_held_is_kept_and_not_held_again(tmp_path):
    first = simulated(speakers(), SETTINGS, tmp_path, seed=1)
    assert len(first) == 5
    parts = sorted(tmp_path.rglob("part-*.parquet"))
    times = [part.stat().st_mtime_ns for part in parts]
    assert simulated(speakers(), SETTINGS, tmp_path, seed=1) == first
    assert [part.stat().st_mtime_ns for part in parts] == times


def test_what_other_weights_of_the_same_name_said_is_not_taken_for_theirs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talkative").mkdir()  # a model trained once more to the same place
    for weights in (b"first", b"trained again", b"trained again"):
        (tmp_path / "talkative" / "model.safetensors").write_bytes(weights)
        os.utime(tmp_path / "talkative" / "model.safetensors", ns=(1, len(weights)))
        simulated(speakers(), SETTINGS, tmp_path / "kept", seed=1)
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_another_instruction_is_another_simulation(tmp_path):
    simulated(speakers(), SETTINGS, tmp_path, seed=1)
    other = simulated(speakers(told="act as a user"), SETTINGS, tmp_path, seed=1)
    assert len(list(tmp_path.iterdir())) == 2
    assert other[0].user_model == "talkative-prompted"


def test_an_engine_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError):
        simulated(speakers(model="nobody"), SETTINGS, tmp_path, seed=1)
