"""Curation on a local Ray cluster, with workers killed on the way."""

import os
import random
import signal
from functools import partial

import pytest

from pipelines.curate import Curation
from pipelines.curate_settings import CurateSettings
from pipelines.spread import in_turn
from ray_jobs.curate import RayTasks
from usersim.conversation import Conversation, Message
from usersim.errors import InputError
from usersim.files import write_conversations

WORDS = [
    "bake",
    "plant",
    "fix",
    "write",
    "paint",
    "build",
    "tune",
    "bread",
    "garden",
    "poem",
    "fence",
    "radio",
    "boat",
    "letter",
]


def conversations(number):
    """English ones, of which many repeat or resemble another."""
    draw, made = random.Random(3), []
    for i in range(number):
        words = " ".join(draw.choices(WORDS, k=8))
        text = f"can you tell me how i should {words} this weekend please"
        if made and i % 3 == 0:
            text = draw.choice(made).opener + draw.choice(["", " now", "!"])
        turns = (Message("user", text), Message("assistant", f"Begin with the {words}."))
        made.append(Conversation(id=f"c{i:04d}", messages=turns))
    return made


def killed_once(marks, work, task):
    """The work, after the first worker that was to do it has been killed."""
    mark = marks / f"{abs(hash(str(task)[:300]))}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return work(task)
    os.kill(os.getpid(), signal.SIGKILL)


class Treacherous(RayTasks):
    """Kills the worker of every task once."""

    def __init__(self, marks):
        super().__init__()
        self.marks = marks

    def __call__(self, work, tasks):
        return super().__call__(partial(killed_once, self.marks, work), tasks)


def refuse(_):
    raise InputError("this is no shard of ours")


@pytest.fixture(scope="module")
def cluster():
    """Two CPUs of this machine."""
    import ray

    environment = {"env_vars": {"PYTHONHASHSEED": "0"}}
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", runtime_env=environment)
    yield
    ray.shutdown()


@pytest.mark.slow
def test_ray_keeps_what_one_process_keeps_though_workers_are_killed(tmp_path, cluster):
    (tmp_path / "marks").mkdir()
    told = {}
    for name, spread in (("alone", in_turn), ("ray", Treacherous(tmp_path / "marks"))):
        made = conversations(160)
        for number in range(4):
            part = tmp_path / name / "conversations" / f"part-{number:05d}.parquet"
            write_conversations(part, made[number::4])
        folders = [tmp_path / name / at for at in ("conversations", "curated", "rejected.parquet")]
        figures = Curation(CurateSettings(), *folders).carry_out(spread=spread)
        written = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        told[name] = figures, [(p.name, p.read_bytes()) for p in written]
    assert told["alone"] == told["ray"]
    assert 0 < told["ray"][0]["kept"] < 160
    assert len(list((tmp_path / "marks").iterdir())) >= 4


@pytest.mark.slow
def test_an_error_of_the_work_is_told_as_it_is(cluster):
    with pytest.raises(InputError, match="no shard of ours"):
        list(RayTasks()(refuse, [1]))
